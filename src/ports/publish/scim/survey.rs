//! Who would gain and lose what at a receiver, beside what users hold here. Nothing is changed.
