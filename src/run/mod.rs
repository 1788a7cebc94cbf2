//! Run folders, checkpoints, metrics, progress.
