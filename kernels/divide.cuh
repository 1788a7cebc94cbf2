// Division by a number that is known at launch: one high product, one addition, one shift. Exact for
// dividends below 2^31.

#include "types.cuh"

struct Divisor {
    u32 divisor, factor, shift;

    __device__ __forceinline__ u32 quotient(u32 dividend) const {
        return (__umulhi(dividend, factor) + dividend) >> shift;
    }

    // Leaves the quotient in `dividend`, returns the remainder.
    __device__ __forceinline__ u32 split(u32& dividend) const {
        u32 whole = quotient(dividend), rest = dividend - whole * divisor;
        dividend = whole;
        return rest;
    }
};
