//! Who may give, take and keep what is privileged, through file and store together.

mod support;
