//! What needs no kernel: texts that are no PTX, the parts that count and compare, and the lists in the README.

mod counters;
mod garbage;
mod half;
mod races;
mod readme;

#[test]
fn the_table_of_opcodes_is_sorted() {
    assert!(cuda::isa::OPCODES.windows(2).all(|pair| pair[0].name < pair[1].name));
}
