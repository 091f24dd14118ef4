//! Paths, header names and bodies, as the laxest app reads them.
