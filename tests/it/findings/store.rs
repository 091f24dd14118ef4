//! Readiness, one process for each file, and upgrades beside other commands.
