//! K-means partitions of embeddings.
