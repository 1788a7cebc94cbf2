//! Data sets: files, importers, splits, batches.
