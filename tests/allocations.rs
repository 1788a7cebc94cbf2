//! A training step allocates nothing after its first run. The only test of this file, so that nothing else
//! allocates meanwhile.

use tessera::bench::{allocations, step};

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

#[test]
fn steps_allocate_nothing_after_the_first() {
    assert!(allocations::count() > 0, "the counter counts");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    for (net, rule) in [("mnistnet", "sgd"), ("cifarnet", "paper"), ("mininet", "released-intended")] {
        let request = step::Request {
            net: net.into(),
            rule: rule.into(),
            channels: Vec::new(),
            batch: 8,
            inner_steps: 2,
            tasks: 2,
            repeats: 5,
            device: tessera::device::Choice::CPU,
        };
        let figures = pool.install(|| step::measure(&request)).unwrap();
        assert_eq!(figures.allocations, 0, "{net} {rule}");
    }
}
