//! When two requests are equal, and what is kept of their answers.
