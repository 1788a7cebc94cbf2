//! Copies a window of an image: zeros outside, zeros between dilated elements, pooled gradients put back
//! at their positions.

use super::Upstream;
use crate::device::cpu::simd::{Job, Vector};
use crate::tensor::Real;

/// An image batch `[N, H, W, C]`, dense or un-pooled on the fly.
#[derive(Clone, Copy)]
pub(super) struct Images<'a, T> {
    pub values: Upstream<'a, T>,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub dilation: usize,
}

/// A window in coordinates of the dilated image; negative ones lie in the padding.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub image: usize,
    pub row: isize,
    pub column: isize,
    pub rows: usize,
    pub columns: usize,
    /// First channel and number of channels.
    pub channel: usize,
    pub channels: usize,
    /// Elements from one pixel of the copy to the next; what lies between is set to zero.
    pub pitch: usize,
}

/// The copy of a window as a job; `to` is `[rows, columns, pitch]`.
pub(super) struct Gather<'a, 'b, T> {
    pub images: &'b Images<'a, T>,
    pub window: Window,
    pub to: &'b mut [T],
}

impl<T: Real> Job<T> for Gather<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Element = T>>(self) {
        self.images.copy(&self.window, self.to);
    }
}

impl<T: Real> Images<'_, T> {
    #[inline(always)]
    pub fn copy(&self, window: &Window, to: &mut [T]) {
        let line = window.columns * window.pitch;
        for (i, to) in to[..window.rows * line].chunks_exact_mut(line).enumerate() {
            match self.place(window.row + i as isize, self.h) {
                Some(row) => self.line(window, row, to),
                None => to.fill(T::ZERO),
            }
        }
    }

    /// The source row or column of a position in the dilated image.
    #[inline(always)]
    fn place(&self, position: isize, count: usize) -> Option<usize> {
        let position = usize::try_from(position).ok()?;
        let place = position / self.dilation;
        (place < count && place * self.dilation == position).then_some(place)
    }

    #[inline(always)]
    fn line(&self, window: &Window, row: usize, to: &mut [T]) {
        let Window { image, channel, channels, pitch, .. } = *window;
        if let Upstream::Dense(values) = self.values
            && self.dilation == 1
            && channels == self.c
            && pitch == channels
        {
            // One run of whole pixels between the padding on both sides.
            let left = (-window.column).clamp(0, window.columns as isize) as usize;
            let end = (self.w as isize - window.column).clamp(left as isize, window.columns as isize);
            let end = end as usize;
            to[..left * pitch].fill(T::ZERO);
            to[end * pitch..].fill(T::ZERO);
            if end > left {
                let first = (window.column + left as isize) as usize;
                let from = ((image * self.h + row) * self.w + first) * self.c;
                to[left * pitch..end * pitch].copy_from_slice(&values[from..from + (end - left) * pitch]);
            }
            return;
        }
        for (j, to) in to.chunks_exact_mut(pitch).enumerate() {
            let Some(column) = self.place(window.column + j as isize, self.w) else {
                to.fill(T::ZERO);
                continue;
            };
            let (to, rest) = to.split_at_mut(channels);
            rest.fill(T::ZERO);
            match self.values {
                Upstream::Dense(values) => {
                    let from = ((image * self.h + row) * self.w + column) * self.c + channel;
                    to.copy_from_slice(&values[from..from + channels]);
                }
                Upstream::Unpool { pooled, argmax } => {
                    let (hp, wp) = (self.h / 2, self.w / 2);
                    if row / 2 >= hp || column / 2 >= wp {
                        to.fill(T::ZERO);
                        continue;
                    }
                    let from = ((image * hp + row / 2) * wp + column / 2) * self.c + channel;
                    let position = (row % 2 * 2 + column % 2) as u8;
                    let values = &pooled[from..from + channels];
                    for ((to, &value), &at) in to.iter_mut().zip(values).zip(&argmax[from..from + channels]) {
                        *to = if at == position { value } else { T::ZERO };
                    }
                }
            }
        }
    }
}
