//! Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy
//! as 1, 2, 3"). A draw is a pure function of key and counter, so results depend neither on threads
//! nor on order, and a generator's state is a number.

/// One block of four draws.
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [
                key[0].wrapping_add(0x9E37_79B9),
                key[1].wrapping_add(0xBB67_AE85),
            ];
        }
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
    }
    counter
}

fn block_at(key: [u32; 4], stream: u32, block: u64) -> [u32; 4] {
    let counter = [block as u32, (block >> 32) as u32 ^ key[3], stream, key[2]];
    philox4x32_10(counter, [key[0], key[1]])
}

/// Uniform draw number `index` in [0, 1) of a stream.
pub fn uniform_at(key: [u32; 4], stream: u32, index: u64) -> f64 {
    let word = block_at(key, stream, index / 4)[(index % 4) as usize];
    f64::from(word >> 8) / f64::from(1u32 << 24)
}

/// Standard normal draw number `index` of a stream (Box & Muller 1958).
pub fn normal_at(key: [u32; 4], stream: u32, index: u64) -> f64 {
    let words = block_at(key, stream, index / 4);
    let pair = (index % 4) as usize / 2 * 2;
    let unit = |w: u32| (f64::from(w) + 0.5) / 4294967296.0;
    let radius = (-2.0 * unit(words[pair]).ln()).sqrt();
    let angle = std::f64::consts::TAU * unit(words[pair + 1]);
    if index % 2 == 0 {
        radius * angle.cos()
    } else {
        radius * angle.sin()
    }
}
