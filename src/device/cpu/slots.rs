//! Units of work that any thread may take, each thread with scratch memory of its own, and outputs
//! that several threads write in disjoint places.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

/// Scratch areas to plan for: more threads than this many find no work in a kernel.
pub fn count(units: usize) -> usize {
    units.min(rayon::current_num_threads()).max(1)
}

/// Calls `work(unit, scratch)` for every unit. Which thread takes a unit is not determined, so a unit's
/// result must depend on nothing but the unit. `workspace` is cut into areas of `scratch` elements.
pub fn for_each<T: Send>(
    units: usize,
    scratch: usize,
    workspace: &mut [T],
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    let next = AtomicUsize::new(0);
    let run = |area: &mut [T]| loop {
        let unit = next.fetch_add(1, Ordering::Relaxed);
        if unit >= units {
            break;
        }
        work(unit, area);
    };
    match workspace.len().checked_div(scratch) {
        None => (0..count(units)).into_par_iter().for_each(|_| run(&mut [])),
        Some(areas) => {
            debug_assert!(areas > 0, "a kernel was given less scratch than it asked for");
            workspace.par_chunks_exact_mut(scratch).take(areas.min(units)).for_each(run);
        }
    }
}

/// A pointer to memory of which every thread writes its own part.
#[derive(Clone, Copy)]
pub struct Shared<T>(*mut T);

// SAFETY: the users of `get` promise to write disjoint parts.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn new(slice: &mut [T]) -> Self {
        Shared(slice.as_mut_ptr())
    }

    /// The pointer; what is written through it must be written by one thread only, and lie within the
    /// slice that this was made from.
    pub fn get(self) -> *mut T {
        self.0
    }

    /// # Safety
    /// The part must lie within the slice, and no other thread may use it meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}
