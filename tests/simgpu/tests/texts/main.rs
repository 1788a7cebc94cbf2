//! What needs no kernel: texts that are no PTX, and the lists in the README.

mod garbage;
mod readme;
