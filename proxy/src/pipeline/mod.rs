//! The path of one request, top to bottom.
