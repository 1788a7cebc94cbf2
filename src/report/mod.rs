//! Reports of finished runs.
