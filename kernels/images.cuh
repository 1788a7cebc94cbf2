// Convolutions as products of matrices that never exist: how terms and lines become places in images and
// filters. Activations are [N, H, W, C], filters [K, R, S, C].
//
//   forward          y[pixel][k]     = sum over r, s, c       x[pixel moved by r, s][c] * w[k][r, s, c]
//   input gradient   dx[pixel][c]    = sum over r, s, k       dy[pixel moved back by r, s][k] * w[k][r, s, c]
//   weight gradient  dw[k][r, s, c]  = sum over pixels        dy[pixel][k] * x[pixel moved by r, s][c]

struct Geometry {
    // Of the result as a matrix, and terms and steps of one source.
    u32 rows, columns, terms, steps;
    u32 sources;
    // Output channels, filter positions.
    u32 filters, taps;
    // Of the image that is gathered from: x, or dy for the input gradient.
    int height, width;
    int stride, pad;
    // By the channels of that image, by the columns of the filter, and by columns and rows of the grid
    // of pixels that are enumerated (pooling windows if windows are).
    Divisor channels, filter_width, grid_width, grid_height;
    Stages stages;
};

// Elements of pooled gradients on their way to a tile. An element stands at the place of its window that its
// position names, zeros at the other three.
template <int ITEMS, int WIDTH>
struct Unpooled {
    float values[ITEMS][WIDTH];
    // Positions, a byte each, and the place of the pixel in its window, two bits an item.
    u32 found[ITEMS], place;

    // `positions` is null for a gradient that is not pooled: every element stands at its place.
    __device__ __forceinline__ void fetch(int item, const float* from, const u8* positions, u32 at, bool present,
                                          u32 pixel) {
        if (item == 0) place = 0;
        place |= pixel << item * 2;
        found[item] = pixel * 0x01010101;
#pragma unroll
        for (int i = 0; i < WIDTH; i++) values[item][i] = 0;
        if (!present) return;
        get(from + at, values[item], WIDTH > 1, WIDTH);
        if (positions) found[item] = WIDTH == 4 ? *(const u32*)(positions + at) : positions[at];
    }

    __device__ __forceinline__ void settle(int item, float* to) {
#pragma unroll
        for (int i = 0; i < WIDTH; i++) {
            bool stands = (found[item] >> i * 8 & 255) == (place >> item * 2 & 3);
            values[item][i] = stands ? values[item][i] : 0;
        }
        put(to, values[item], WIDTH > 1, WIDTH);
    }
};

// Without un-pooling nothing is kept.
struct Nothing {};
template <bool CONDITION, class Then, class Else>
struct Choice {
    typedef Then Type;
};
template <class Then, class Else>
struct Choice<false, Then, Else> {
    typedef Else Type;
};

// A pixel of a gradient that may be pooled.
struct Pixel {
    u32 index, place;
    bool exists;
};

// The pixel at (`y`, `x`) of `image`, in a gradient of `height` x `width`, pooled or not.
__device__ __forceinline__ Pixel gradient_pixel(u32 image, u32 y, u32 x, u32 height, u32 width, bool pooled) {
    if (!pooled) return {(image * height + y) * width + x, 0, true};
    height /= 2, width /= 2;
    return {(image * height + y / 2) * width + x / 2, (y & 1) * 2 + (x & 1), y / 2 < height && x / 2 < width};
}

// Patches of images around pixels: lines are pixels, terms [filter row, filter column, channel].
// BACK moves against the filter, for the input gradient. The images may be pooled then.
template <int LINES, int WIDTH, bool BACK, bool POOLED>
struct Patches {
    typedef AlongTerms<LINES> Tile;
    typedef Share<Tile, WIDTH> Mine;
    const Geometry& g;
    const float *first, *second;
    const u8 *first_positions, *second_positions;
    // For each line, the image, and the pixel of the image at filter position 0, 0: row and column, 16 bits each.
    u32 image[Mine::ITEMS];
    int corner[Mine::ITEMS];
    typename Choice<POOLED, Unpooled<Mine::ITEMS, WIDTH>, Nothing>::Type kept;

    // Lines `line..` of the tile; of the grid's pixels, or of its windows' pixels if those are pooled.
    __device__ __forceinline__ void locate(u32 line) {
#pragma unroll
        for (int i = 0; i < Mine::ITEMS; i++) {
            u32 at = Mine::line(i), pixel = 0;
            bool windows = !BACK && g.stages.pool != POOL_NONE;
            at = line + (windows ? window_order(at) : at);
            bool present = at < g.rows && Mine::has(i);
            if (windows) pixel = at % 4, at /= 4;
            int x = g.grid_width.split(at), y = g.grid_height.split(at);
            if (windows) y = 2 * y + pixel / 2, x = 2 * x + pixel % 2;
            y = BACK ? y + g.pad : y * g.stride - g.pad;
            x = BACK ? x + g.pad : x * g.stride - g.pad;
            // A row that no filter position brings into an image.
            if (!present) y = BACK ? -1 : 32767;
            image[i] = at;
            corner[i] = y << 16 | (x & 0xffff);
        }
    }

    __device__ __forceinline__ void fetch(u32 step, float* tile) {
        bool one = step < g.steps;
        const float* from = one ? first : second;
        u32 term = (one ? step : step - g.steps) * DEPTH + Mine::term(), position = term;
        int channel = g.channels.split(position), row = position;
        bool within = term < g.terms;
        u32 quotient = row;
        int column = g.filter_width.split(quotient);
        row = quotient;
#pragma unroll
        for (int i = 0; i < Mine::ITEMS; i++) {
            int y = (corner[i] >> 16) + (BACK ? -row : row), x = (short)corner[i] + (BACK ? -column : column);
            bool present = within && y >= 0 && x >= 0;
            if (BACK && g.stride > 1) {
                present = present && y % g.stride == 0 && x % g.stride == 0;
                y /= g.stride, x /= g.stride;
            }
            present = present && y < g.height && x < g.width;
            float* to = tile + Mine::place(i);
            if constexpr (POOLED) {
                const u8* positions = one ? first_positions : second_positions;
                Pixel pixel = gradient_pixel(image[i], y, x, g.height, g.width, positions);
                kept.fetch(i, from, positions, pixel.index * g.channels.divisor + channel, present && pixel.exists,
                           pixel.place);
            } else if (Mine::has(i)) {
                u32 at = ((image[i] * g.height + y) * g.width + x) * g.channels.divisor + channel;
                copy<WIDTH>(to, from + (present ? at : 0), present);
            }
        }
    }

    __device__ __forceinline__ void settle(float* tile) {
        if constexpr (POOLED) {
#pragma unroll
            for (int i = 0; i < Mine::ITEMS; i++) {
                if (Mine::has(i)) kept.settle(i, tile + Mine::place(i));
            }
        }
    }
};

// Filters for the input gradient: lines are input channels, terms [filter row, filter column, output channel].
template <int LINES, int WIDTH>
struct Filters {
    typedef AlongLines<LINES> Tile;
    typedef Share<Tile, WIDTH> Mine;
    const Geometry& g;
    const float *first, *second;
    u32 line;

    __device__ __forceinline__ void fetch(u32 step, float* tile) {
        bool one = step < g.steps;
        const float* from = one ? first : second;
        u32 term = (one ? step : step - g.steps) * DEPTH, at = line + Mine::line();
#pragma unroll
        for (int i = 0; i < Mine::ITEMS; i++) {
            if (!Mine::has(i)) continue;
            u32 position = term + Mine::term(i);
            bool present = at < g.columns && position < g.terms;
            u32 filter = g.channels.split(position);
            u32 place = (filter * g.taps + position) * g.columns + at;
            copy<WIDTH>(tile + Mine::place(i), from + (present ? place : 0), present);
        }
    }

    __device__ __forceinline__ void settle(float*) {}
};

// Inputs for the weight gradient: lines [filter row, filter column, channel], terms are pixels of the grid.
template <int LINES, int WIDTH>
struct Windows {
    typedef AlongLines<LINES> Tile;
    typedef Share<Tile, WIDTH> Mine;
    const Geometry& g;
    const float *first, *second;
    // Of this thread's line: filter row and column, less the padding, and channel.
    int row, column, channel;

    __device__ __forceinline__ void locate(u32 line) {
        u32 at = line + Mine::line();
        bool present = at < g.columns;
        channel = g.channels.split(at);
        column = g.filter_width.split(at) - g.pad;
        row = at - g.pad;
        // A row that is in no image.
        if (!present) row = -0x10000000;
    }

    __device__ __forceinline__ void fetch(u32 step, float* tile) {
        bool one = step < g.steps;
        const float* from = one ? first : second;
        u32 term = (one ? step : step - g.steps) * DEPTH;
#pragma unroll
        for (int i = 0; i < Mine::ITEMS; i++) {
            if (!Mine::has(i)) continue;
            u32 image = term + Mine::term(i);
            bool present = image < g.terms;
            int x = g.grid_width.split(image), y = g.grid_height.split(image);
            x = x * g.stride + column, y = y * g.stride + row;
            present = present && x >= 0 && y >= 0 && x < g.width && y < g.height;
            u32 at = ((image * g.height + y) * g.width + x) * g.channels.divisor + channel;
            copy<WIDTH>(tile + Mine::place(i), from + (present ? at : 0), present);
        }
    }

    __device__ __forceinline__ void settle(float*) {}
};

// Gradients for the weight gradient that may be pooled: lines are output channels, terms are pixels.
template <int LINES, int WIDTH>
struct Upstream {
    typedef AlongLines<LINES> Tile;
    typedef Share<Tile, WIDTH> Mine;
    const Geometry& g;
    const float *first, *second;
    const u8 *first_positions, *second_positions;
    u32 line;
    Unpooled<Mine::ITEMS, WIDTH> kept;

    __device__ __forceinline__ void fetch(u32 step, float* tile) {
        bool one = step < g.steps;
        const float* from = one ? first : second;
        const u8* positions = one ? first_positions : second_positions;
        u32 term = (one ? step : step - g.steps) * DEPTH, at = line + Mine::line();
#pragma unroll
        for (int i = 0; i < Mine::ITEMS; i++) {
            u32 image = term + Mine::term(i);
            bool present = Mine::has(i) && at < g.filters && image < g.terms;
            u32 x = g.grid_width.split(image), y = g.grid_height.split(image);
            Pixel pixel = gradient_pixel(image, y, x, g.grid_height.divisor, g.grid_width.divisor, positions);
            kept.fetch(i, from, positions, pixel.index * g.filters + at, present && pixel.exists, pixel.place);
        }
    }

    __device__ __forceinline__ void settle(float* tile) {
#pragma unroll
        for (int i = 0; i < Mine::ITEMS; i++) {
            if (Mine::has(i)) kept.settle(i, tile + Mine::place(i));
        }
    }
};
