//! The admin API: read-only views, reload, and cache clearing.
