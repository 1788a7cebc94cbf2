//! What counts as a race.

use cuda::exec::counters::Access;
use cuda::exec::races::*;

#[test]
fn a_barrier_orders_warps() {
    let mut races = SharedRaces::new(64);
    assert_eq!(races.access(0, 4, Access::Write, 0, 7), None);
    assert_eq!(races.access(0, 4, Access::Read, 0, 8), None);
    let conflict = races.access(0, 4, Access::Read, 1, 9).unwrap();
    assert_eq!((conflict.what, conflict.other, conflict.at), ("read after write", Some(0), 7));
    races.order();
    assert_eq!(races.access(0, 4, Access::Read, 1, 9), None);
    assert_eq!(races.access(0, 4, Access::Read, 2, 9), None);
    assert_eq!(races.access(0, 4, Access::Write, 1, 9).unwrap().what, "write after read");
}

#[test]
fn atomics_race_only_with_plain_accesses() {
    let mut races = SharedRaces::new(8);
    assert_eq!(races.access(0, 4, Access::Atomic, 0, 1), None);
    assert_eq!(races.access(0, 4, Access::Atomic, 1, 1), None);
    assert_eq!(races.access(0, 4, Access::Read, 1, 2).unwrap().what, "read after atomic");
}

#[test]
fn a_fence_and_an_atomic_order_blocks() {
    let mut races = GlobalRaces::default();
    races.start_block(0);
    assert_eq!(races.access(4096, 4, Access::Write, 1), None);
    races.fence();
    races.synchronise(64);
    assert_eq!(races.access(64, 4, Access::Atomic, 2), None);
    races.start_block(1);
    assert!(races.access(4096, 4, Access::Read, 3).is_some());
    races.synchronise(64);
    assert_eq!(races.access(4096, 4, Access::Read, 3), None);
    assert_eq!(races.access(64, 4, Access::Write, 3), None);
}
