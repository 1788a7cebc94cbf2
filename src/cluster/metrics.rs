//! Figures that describe partitions and compare them with each other or with true labels.

/// Numbers of points for each pair of labels `[rows, columns]`, with row and column sums.
struct Table {
    counts: Vec<f64>,
    rows: Vec<f64>,
    columns: Vec<f64>,
    n: f64,
}

impl Table {
    fn new(a: &[u32], b: &[u32]) -> Self {
        assert_eq!(a.len(), b.len(), "two labels for each point");
        let size = |l: &[u32]| l.iter().max().map_or(0, |&m| m as usize + 1);
        let (rows, columns) = (size(a), size(b));
        let mut table = Table {
            counts: vec![0.0; rows * columns],
            rows: vec![0.0; rows],
            columns: vec![0.0; columns],
            n: a.len() as f64,
        };
        for (&a, &b) in a.iter().zip(b) {
            table.counts[a as usize * columns + b as usize] += 1.0;
            table.rows[a as usize] += 1.0;
            table.columns[b as usize] += 1.0;
        }
        table
    }
}

/// Adjusted Rand index (Hubert & Arabie 1985): 1 for equal partitions, about 0 for independent ones.
pub fn adjusted_rand_index(a: &[u32], b: &[u32]) -> f64 {
    let t = Table::new(a, b);
    let pairs = |counts: &[f64]| counts.iter().map(|c| c * (c - 1.0) / 2.0).sum::<f64>();
    let (both, rows, columns) = (pairs(&t.counts), pairs(&t.rows), pairs(&t.columns));
    let expected = rows * columns / (t.n * (t.n - 1.0) / 2.0);
    let largest = (rows + columns) / 2.0;
    if largest == expected { 1.0 } else { (both - expected) / (largest - expected) }
}

/// Entropy of the labels, in nats.
pub fn entropy(labels: &[u32]) -> f64 {
    entropy_of(&Table::new(labels, labels).rows, labels.len() as f64)
}

fn entropy_of(counts: &[f64], n: f64) -> f64 {
    counts.iter().filter(|&&c| c > 0.0).map(|c| -(c / n) * (c / n).ln()).sum()
}

/// Mutual information over the arithmetic mean of the entropies: 1 for equal partitions.
pub fn normalised_mutual_information(a: &[u32], b: &[u32]) -> f64 {
    let t = Table::new(a, b);
    let (rows, columns) = (entropy_of(&t.rows, t.n), entropy_of(&t.columns, t.n));
    if rows + columns == 0.0 {
        return 1.0;
    }
    let information = rows + columns - entropy_of(&t.counts, t.n);
    (2.0 * information / (rows + columns)).clamp(0.0, 1.0)
}

/// Fraction of points whose true label is the commonest of their cluster.
pub fn purity(clusters: &[u32], truth: &[u32]) -> f64 {
    let t = Table::new(clusters, truth);
    let commonest = |row: &[f64]| row.iter().copied().fold(0.0, f64::max);
    t.counts.chunks(t.columns.len().max(1)).map(commonest).sum::<f64>() / t.n.max(1.0)
}

/// Sizes of the clusters.
pub fn sizes(labels: &[u32], clusters: usize) -> Vec<usize> {
    let mut sizes = vec![0; clusters];
    labels.iter().for_each(|&l| sizes[l as usize] += 1);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from scikit-learn 1.9 for the same labels.
    #[test]
    fn known_values() {
        let (a, b) = ([0, 0, 1, 1, 2, 2, 2, 0], [1, 1, 0, 0, 0, 2, 2, 1]);
        assert!((adjusted_rand_index(&a, &b) - 0.619_047_619_047_619_1).abs() < 1e-12);
        assert!((normalised_mutual_information(&a, &b) - 0.779_436_519_108_516_2).abs() < 1e-12);
        assert_eq!(purity(&a, &b), 7.0 / 8.0);
        assert!((entropy(&a) - 1.082_195_530_038_767_1).abs() < 1e-12);
    }

    #[test]
    fn equal_partitions_by_other_names() {
        let (a, b) = ([0, 1, 1, 2, 0], [2, 0, 0, 1, 2]);
        assert_eq!(adjusted_rand_index(&a, &b), 1.0);
        assert!((normalised_mutual_information(&a, &b) - 1.0).abs() < 1e-12);
        assert_eq!(purity(&a, &b), 1.0);
    }
}
