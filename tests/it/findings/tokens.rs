//! Tokens that an app could read, wherever they stand in a request.
