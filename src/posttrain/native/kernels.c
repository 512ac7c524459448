// Single-threaded fp32 kernels for CPUs: thin matrix products, a whole decoding step, attention over the flat layout, and the products
// of a block and of the head with what is between them.
//
// Callers give each thread its own rows; nothing here starts a thread or keeps a state. Every output element is summed in an order that
// depends on its own inputs alone, so a row has the same bits whoever computes it and in whatever company. Vectors are the compiler's own
// extension, which clang and gcc lower to AVX2, AVX-512 or NEON; no intrinsics. Products use the widest that the processor has.

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define WIDE 16
#else
#define WIDE 8
#endif
typedef float v8 __attribute__((vector_size(32)));
typedef int32_t i8 __attribute__((vector_size(32)));
typedef float vw __attribute__((vector_size(4 * WIDE)));
#define INLINE static inline __attribute__((always_inline))
#define PANEL (2 * WIDE) // columns of a packed weight that lie together
#define ROUND(n) (((n) + PANEL - 1) / PANEL * PANEL)
#define LINE 16  // floats that are fetched at once
#define CHUNK 32 // steps of a sum between two rounds of fetching ahead
#define ROWS 96  // rows of a large product that are multiplied with all panels before the next ones
#define TILE 6   // rows that are multiplied at once: 12 sums stay in registers
#define THIN 48  // rows up to which a product waits for its weights, so that they are fetched ahead

// Columns of a panel, by which callers lay out memory.
int64_t panel(void) { return PANEL; }

INLINE v8 load(const float *p) {
  v8 x;
  memcpy(&x, p, sizeof x);
  return x;
}
INLINE void store(float *p, v8 x) { memcpy(p, &x, sizeof x); }
INLINE v8 all(float x) { return (v8){x, x, x, x, x, x, x, x}; }
INLINE v8 larger(v8 a, v8 b) {
  i8 m = a > b;
  return (v8)((m & (i8)a) | (~m & (i8)b));
}
INLINE float sum(v8 x) { return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7])); }

// e^x to 2 units in the last place for x in [-87, 88], 0 below, capped above. Cephes' expf polynomial.
INLINE v8 expv(v8 x) {
  const i8 alive = x > -87.0f;
  x = larger(x, all(-87.0f));
  x = -larger(-x, all(-88.0f));
  const v8 shifted = x * 1.44269504088896341f + 12582912.0f, n = shifted - 12582912.0f; // rounds to the nearest integer
  const v8 r = x - n * 0.693359375f + n * 2.12194440e-4f;
  v8 y = r * 1.9875691500e-4f + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * (r * r) + r + 1.0f;
  const i8 power = (__builtin_convertvector(n, i8) + 127) << 23;
  return (v8)(alive & (i8)(y * (v8)power));
}

INLINE vw wide(const float *p) {
  vw x;
  memcpy(&x, p, sizeof x);
  return x;
}

// c[i, 0:V WIDE] = (add ? c : 0) + alpha * sum_k a[i * row + k * step] b[k * bs, 0:V WIDE] for i < M. M and V (1 or 2) are constants where
// this is used. Meanwhile `lines` lines from `ahead` on are fetched per CHUNK of K: what is needed next, as fast as memory gives it.
INLINE void tile(const int M, const int V, const float *a, long row, long step, const float *b, long bs, float *c, long cs, long K, int add,
                 float alpha, const float *ahead, long lines) {
  vw s[TILE][2];
#pragma GCC unroll 6
  for (int i = 0; i < M; i++) s[i][0] = s[i][1] = (vw){0};
  for (long k = 0; k < K;) {
    for (long i = 0; i < lines; i++, ahead += LINE) __builtin_prefetch(ahead);
    for (const long end = lines && K - k > CHUNK ? k + CHUNK : K; k < end; k++) {
      const vw b0 = wide(b + k * bs), b1 = V > 1 ? wide(b + k * bs + WIDE) : b0;
#pragma GCC unroll 6
      for (int i = 0; i < M; i++) {
        const float x = a[i * row + k * step];
        s[i][0] += x * b0;
        if (V > 1) s[i][1] += x * b1;
      }
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < M; i++)
    for (int h = 0; h < V; h++) {
      float *at = c + i * cs + WIDE * h;
      const vw made = add ? wide(at) + alpha * s[i][h] : alpha * s[i][h];
      memcpy(at, &made, sizeof made);
    }
}

// The same for any number of rows; `next` are K PANEL numbers that are needed afterwards, or 0.
INLINE void rows_of(const int V, long m, const float *a, long row, long step, const float *b, long bs, float *c, long cs, long K, int add,
                    float alpha, const float *next) {
  const long passes = (m + TILE - 1) / TILE, lines = next ? (CHUNK * (PANEL / LINE) + passes - 1) / passes : 0;
  const long pass = (K + CHUNK - 1) / CHUNK * lines * LINE;
  for (; m >= TILE; m -= TILE, a += TILE * row, c += TILE * cs, next += pass)
    tile(TILE, V, a, row, step, b, bs, c, cs, K, add, alpha, next, lines);
  if (m == 5) tile(5, V, a, row, step, b, bs, c, cs, K, add, alpha, next, lines);
  if (m == 4) tile(4, V, a, row, step, b, bs, c, cs, K, add, alpha, next, lines);
  if (m == 3) tile(3, V, a, row, step, b, bs, c, cs, K, add, alpha, next, lines);
  if (m == 2) tile(2, V, a, row, step, b, bs, c, cs, K, add, alpha, next, lines);
  if (m == 1) tile(1, V, a, row, step, b, bs, c, cs, K, add, alpha, next, lines);
}

// A panel's columns: rows of numbers that lie side by side, or are taken across (weights of queries, transposed). Functions of their own,
// with as little to remember as possible: a scale that lives through the loop costs a sum its register where there are sixteen.
#define APART __attribute__((noinline)) static void
APART tiles(long m, const float *a, long row, const float *b, long bs, float *c, long cs, long K, int add) {
  rows_of(2, m, a, row, 1, b, bs, c, cs, K, add, 1.0f, 0);
}
APART tiles_half(long m, const float *a, long row, const float *b, long bs, float *c, long cs, long K, int add) {
  rows_of(1, m, a, row, 1, b, bs, c, cs, K, add, 1.0f, 0);
}
APART tiles_across(long m, const float *a, long step, const float *b, long bs, float *c, long cs, long K, int add) {
  rows_of(2, m, a, 1, step, b, bs, c, cs, K, add, 1.0f, 0);
}
APART tiles_across_half(long m, const float *a, long step, const float *b, long bs, float *c, long cs, long K, int add) {
  rows_of(1, m, a, 1, step, b, bs, c, cs, K, add, 1.0f, 0);
}
APART panel_of(long m, const float *a, long row, const float *b, float *c, long cs, long K, int add) {
  rows_of(2, m, a, row, 1, b, PANEL, c, cs, K, add, 1.0f, 0);
}
APART panel_thin(long m, const float *a, long row, const float *b, float *c, long cs, long K, int add) {
  rows_of(2, m, a, row, 1, b, PANEL, c, cs, K, add, 1.0f, b + K * PANEL);
}
APART panel_scaled(long m, const float *a, long row, const float *b, float *c, long cs, long K, int add, float alpha) {
  rows_of(2, m, a, row, 1, b, PANEL, c, cs, K, add, alpha, m <= THIN ? b + K * PANEL : 0);
}

// Eight rows of eight numbers become columns: row i of x is column i of out, whose rows lie PANEL apart.
INLINE void turn(const float *x, long xs, float *out) {
  v8 a[8], b[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) a[i] = load(x + i * xs);
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    b[i] = __builtin_shufflevector(a[i], a[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    b[i + 1] = __builtin_shufflevector(a[i], a[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) {
      a[i + 2 * j] = __builtin_shufflevector(b[i + j], b[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      a[i + 2 * j + 1] = __builtin_shufflevector(b[i + j], b[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    store(out + i * PANEL, __builtin_shufflevector(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11));
    store(out + (i + 4) * PANEL, __builtin_shufflevector(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15));
  }
}

// n rows of D numbers, xs apart, as panels of rows.
static void read_panels(const float *x, long xs, long n, long D, float *out) {
  long j = 0;
  for (; j + 8 <= n; j += 8)
    for (long d = 0; d < D; d += 8) turn(x + j * xs + d, xs, out + j / PANEL * PANEL * D + j % PANEL + d * PANEL);
  for (; j < ROUND(n); j++)
    for (long d = 0; d < D; d++) out[j / PANEL * PANEL * D + j % PANEL + d * PANEL] = j < n ? x[j * xs + d] : 0.0f;
}

// Weight [K, N], element (k, n) at w[k * ks + n * ns], as panels [ceil(N / PANEL)][K][PANEL], zeros beyond N.
void pack(const float *w, int64_t ks, int64_t ns, int64_t K, int64_t N, float *out) {
  if (ks == 1 && K % 8 == 0) {
    read_panels(w, ns, N, K, out);
    return;
  }
  for (long n0 = 0; n0 < N; n0 += PANEL)
    for (long k = 0; k < K; k++, out += PANEL)
      if (ns == 1 && n0 + PANEL <= N)
        memcpy(out, w + k * ks + n0, PANEL * sizeof(float));
      else
        for (long n = 0; n < PANEL; n++) out[n] = n0 + n < N ? w[k * ks + (n0 + n) * ns] : 0.0f;
}

// out [m, N] = (add ? out : 0) + alpha * (x [m, K] times a packed weight + bias). Rows of x and out lie xs and os apart.
static void product(const float *x, long xs, long m, const float *w, const float *bias, long K, long N, float *out, long os, int add,
                    float alpha) {
  for (long n = 0; n < N; n += PANEL, w += K * PANEL) {
    const long width = N - n < PANEL ? N - n : PANEL;
    if (width == PANEL && alpha != 1.0f)
      panel_scaled(m, x, xs, w, out + n, os, K, add, alpha);
    else if (width == PANEL)
      (m <= THIN ? panel_thin : panel_of)(m, x, xs, w, out + n, os, K, add);
    else
      for (long i = 0; i < m; i++) {
        float edge[PANEL] = {0};
        tile(1, 2, x + i * xs, xs, 1, w, PANEL, edge, PANEL, K, 0, alpha, 0, 0);
        for (long j = 0; j < width; j++) out[i * os + n + j] = (add ? out[i * os + n + j] : 0.0f) + edge[j];
      }
    if (bias)
      for (long i = 0; i < m; i++)
        for (long j = 0; j < width; j++) out[i * os + n + j] += alpha * bias[n + j];
  }
}

// out [m, N] = x [m, K] times a packed weight + bias, in blocks of rows that stay in the second cache.
void linear(const float *x, int64_t m, const float *w, const float *bias, int64_t K, int64_t N, float *out) {
  for (long i = 0; i < m; i += ROWS) product(x + i * K, K, m - i < ROWS ? m - i : ROWS, w, bias, K, N, out + i * N, N, 0, 1.0f);
}

#define SPAN 192 // rows whose part of a weight's gradient is added at once

// dw [N, K] = (add ? dw : 0) + dy [m, N]^T x [m, K]; K is a multiple of PANEL. room: SPAN x PANEL floats.
void weight_gradient(const float *dy, const float *x, int64_t m, int64_t N, int64_t K, int64_t add, float *dw, float *room) {
  for (long i = 0; i < m || i == 0; i += SPAN) {
    const long rows = m - i < SPAN ? m - i : SPAN;
    for (long k = 0; k < K; k += PANEL) {
      for (long r = 0; r < rows; r++) memcpy(room + r * PANEL, x + (i + r) * K + k, PANEL * sizeof(float));
      tiles_across(N, dy + i * N, N, room, PANEL, dw + k, K, rows, add || i);
    }
  }
}

// y = x / sqrt(mean(x^2) + eps) * weight; what x was multiplied with
static float rms_norm(const float *x, const float *weight, float eps, long n, float *y) {
  v8 squares = all(0.0f);
  long i = 0;
  for (; i + 8 <= n; i += 8) squares += load(x + i) * load(x + i);
  float total = sum(squares);
  for (long j = i; j < n; j++) total += x[j] * x[j];
  const float scale = 1.0f / sqrtf(total / (float)n + eps);
  for (i = 0; i + 8 <= n; i += 8) store(y + i, load(x + i) * scale * load(weight + i));
  for (; i < n; i++) y[i] = x[i] * scale * weight[i];
  return scale;
}

// The norm of m rows, and scale [m], what each was multiplied with.
void norm_forward(const float *x, const float *weight, float eps, int64_t m, int64_t n, float *y, float *scale) {
  for (long i = 0; i < m; i++, x += n, y += n) scale[i] = rms_norm(x, weight, eps, n, y);
}

// Gradients of the norm from what it gave, so that its input need not be kept: dx [m, n] written, dweight [n] added to (0: not wanted).
// inverse is 1 / weight. n is a multiple of 8.
void norm_backward(const float *dy, const float *y, const float *weight, const float *inverse, const float *scale, int64_t m, int64_t n,
                   float *dx, float *dweight) {
  for (long i = 0; i < m; i++, dy += n, y += n, dx += n) {
    v8 along = all(0.0f);
    for (long j = 0; j < n; j += 8) along += load(dy + j) * load(y + j);
    const float share = sum(along) / (float)n;
    for (long j = 0; j < n; j += 8) {
      const v8 g = load(dy + j), at = load(y + j) * load(inverse + j);
      store(dx + j, scale[i] * (load(weight + j) * g - share * at));
      if (dweight) store(dweight + j, load(dweight + j) + g * at);
    }
  }
}

// y = gate * sigmoid(gate) * up, elementwise; n is a multiple of 8.
static void swiglu(const float *gate, const float *up, long n, float *y) {
  for (long i = 0; i < n; i += 8) store(y + i, load(gate + i) / (1.0f + expv(-load(gate + i))) * load(up + i));
}

INLINE long least(long a, long b) { return a < b ? a : b; }

// A gated MLP of m rows: out [m, K] = (silu(x Wg) * x Wu) Wd, with gate and up [m, inner] for the backward, or 0 where there is none.
// Weights are packed; block is room for three times ROWS x inner. What is between the products never leaves the second cache.
void mlp_forward(const float *x, int64_t m, const float *wg, const float *wu, const float *wd, int64_t K, int64_t inner, float *gate,
                 float *up, float *block, float *out) {
  for (long i = 0; i < m; i += ROWS) {
    const long rows = least(m - i, ROWS);
    float *g = gate ? gate + i * inner : block + ROWS * inner, *u = up ? up + i * inner : block + 2 * ROWS * inner;
    product(x + i * K, K, rows, wg, 0, K, inner, g, inner, 0, 1.0f);
    product(x + i * K, K, rows, wu, 0, K, inner, u, inner, 0, 1.0f);
    swiglu(g, u, rows * inner, block);
    product(block, inner, rows, wd, 0, inner, K, out + i * K, K, 0, 1.0f);
  }
}

// Its gradients: dx [m, K], those of gate and up [m, inner], and act [m, inner], what went into the last product. wg, wu and wd are packed
// the other way round; block is room for ROWS x inner.
void mlp_backward(const float *dy, int64_t m, const float *wg, const float *wu, const float *wd, int64_t K, int64_t inner,
                  const float *gate, const float *up, float *dgate, float *dup, float *act, float *block, float *dx) {
  for (long i = 0; i < m; i += ROWS) {
    const long rows = least(m - i, ROWS), at = i * inner;
    product(dy + i * K, K, rows, wd, 0, K, inner, block, inner, 0, 1.0f);
    for (long j = 0; j < rows * inner; j += 8) {
      const v8 g = load(gate + at + j), u = load(up + at + j), d = load(block + j), s = 1.0f / (1.0f + expv(-g));
      store(act + at + j, g * s * u);
      store(dup + at + j, d * g * s);
      store(dgate + at + j, d * u * s * (1.0f + g * (1.0f - s)));
    }
    product(dgate + at, inner, rows, wg, 0, inner, K, dx + i * K, K, 0, 1.0f);
    product(dup + at, inner, rows, wu, 0, inner, K, dx + i * K, K, 1, 1.0f);
  }
}

// Log-probabilities of targets under logits = factor * (x W + b), and the softmax p [m, V] where it is kept (0: room for ROWS x V is
// enough, in block). A block of rows is normalised while it is in the cache.
void head_forward(const float *x, int64_t m, const float *w, const float *bias, int64_t K, int64_t V, float factor, const int64_t *target,
                  float *p, float *block, float *logp) {
  for (long i = 0; i < m; i += ROWS) {
    const long rows = least(m - i, ROWS);
    float *made = p ? p + i * V : block;
    product(x + i * K, K, rows, w, bias, K, V, made, V, 0, factor);
    for (long r = 0; r < rows; r++) {
      float *row = made + r * V, top = -INFINITY, total = 0.0f;
      long j = 0;
      v8 most = all(-INFINITY), sums = all(0.0f);
      for (; j + 8 <= V; j += 8) most = larger(most, load(row + j));
      for (int l = 0; l < 8; l++) top = most[l] > top ? most[l] : top;
      for (; j < V; j++) top = row[j] > top ? row[j] : top;
      const float said = row[target[i + r]];
      for (j = 0; j + 8 <= V; j += 8) {
        const v8 e = expv(load(row + j) - top);
        sums += e;
        if (p) store(row + j, e);
      }
      for (; j < V; j++) {
        const float e = expf(row[j] - top);
        total += e;
        if (p) row[j] = e;
      }
      total += sum(sums);
      logp[i + r] = said - top - logf(total);
      for (j = 0; p && j + 8 <= V; j += 8) store(row + j, load(row + j) * (1.0f / total));
      for (; p && j < V; j++) row[j] *= 1.0f / total;
    }
  }
}

// The gradient of the logits, written over their softmax, and dx [m, K] = factor * that times W, packed the other way round.
void head_backward(float *p, int64_t m, const float *w, int64_t K, int64_t V, float factor, const int64_t *target, const float *dlogp,
                   float *dx) {
  for (long i = 0; i < m; i += ROWS) {
    const long rows = least(m - i, ROWS);
    for (long r = i; r < i + rows; r++) {
      float *row = p + r * V;
      const float share = -factor * dlogp[r];
      long j = 0;
      for (; j + 8 <= V; j += 8) store(row + j, share * load(row + j));
      for (; j < V; j++) row[j] *= share;
      row[target[r]] -= share;
    }
    product(p + i * V, V, rows, w, 0, V, K, dx + i * K, K, 0, 1.0f);
  }
}

// One layer of a decoder; pointers that are 0 stand for parts that it has not. Weights are packed.
typedef struct {
  const float *attn_norm, *qkv, *qkv_bias, *qk_norm, *q_norm, *k_norm, *turn, *out, *out_bias, *after_attn;
  const float *mlp_norm, *gate_up, *gate_up_bias, *down, *down_bias, *after_mlp;
  float attn_eps, qk_eps, q_eps, k_eps, after_attn_eps, mlp_eps, after_mlp_eps;
  int64_t turned; // dimensions of a head that are turned; pairs lie side by side
  int64_t window; // 0 = all
} Layer;

typedef struct {
  const Layer *layer;
  const float *embed, *norm, *head, *head_bias;
  int64_t layers, hidden, heads, kv_heads, head_dim, inner, vocab, gelu;
  float norm_eps, scale, residual, embed_scale;
} Decoder;

// Live rows: the token to read, tokens in the row's own cache, tokens of its shared prompt and its place in the pool. A cache holds
// [layer][row or place][keys of all heads, values of all heads][token][D]; own_* and pool_* are its strides.
typedef struct {
  const int64_t *token, *length, *base, *place;
  float *own;
  const float *pool;
  int64_t rows, own_layer, own_row, own_head, pool_layer, pool_row, pool_head;
  float *scratch, *logits;
} Step;

// Scores of eight keys: dot products with q, keys apart by D. Summed as a tree, alike for each of the eight.
INLINE v8 dots(const float *q, const float *const k[8], long D) {
  v8 s[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) s[i] = all(0.0f);
  for (long d = 0; d < D; d += 8) {
    const v8 x = load(q + d);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) s[i] += x * load(k[i] + d);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2)
    s[i] = __builtin_shufflevector(s[i], s[i + 1], 0, 8, 2, 10, 4, 12, 6, 14) +
           __builtin_shufflevector(s[i], s[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4)
    s[i] = __builtin_shufflevector(s[i], s[i + 2], 0, 1, 8, 9, 4, 5, 12, 13) +
           __builtin_shufflevector(s[i], s[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
  return __builtin_shufflevector(s[0], s[4], 0, 1, 2, 3, 8, 9, 10, 11) +
         __builtin_shufflevector(s[0], s[4], 4, 5, 6, 7, 12, 13, 14, 15);
}

// One query of one head over two runs of keys and values, the shared prompt's and its own. score: room for their number, rounded up to 8.
static void attend_one(const float *q, const float *k0, const float *v0, long n0, const float *k1, const float *v1, long n1, long D,
                       float scale, float *score, float *out) {
  const long n = n0 + n1;
  v8 most = all(-INFINITY);
  for (long j = 0; j < n; j += 8) {
    const float *k[8];
    for (long i = 0; i < 8; i++) {
      const long at = j + i < n ? j + i : n - 1;
      k[i] = at < n0 ? k0 + at * D : k1 + (at - n0) * D;
    }
    const v8 s = scale * dots(q, k, D);
    store(score + j, s);
    most = larger(most, s); // a key that is read twice at the end does not change the maximum
  }
  float top = most[0];
  for (int i = 1; i < 8; i++) top = most[i] > top ? most[i] : top;
  for (long j = n; j < ((n + 7) & ~7L); j++) score[j] = -INFINITY;
  v8 total = all(0.0f);
  for (long j = 0; j < n; j += 8) {
    const v8 p = expv(load(score + j) - top);
    store(score + j, p);
    total += p;
  }
  const float share = 1.0f / sum(total);
  for (long d = 0; d < D; d += 32) {
    const long parts = D - d < 32 ? (D - d) / 8 : 4;
    v8 s[4] = {all(0.0f), all(0.0f), all(0.0f), all(0.0f)};
    for (long j = 0; j < n; j++) {
      const float *v = (j < n0 ? v0 + j * D : v1 + (j - n0) * D) + d;
      if (parts == 4) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) s[i] += score[j] * load(v + 8 * i);
      } else
        for (int i = 0; i < parts; i++) s[i] += score[j] * load(v + 8 * i);
    }
    for (int i = 0; i < parts; i++) store(out + d + 8 * i, share * s[i]);
  }
}

// Queries and keys of a row [H + Hkv, D] get their norms and are turned to their position.
static void place_heads(const Decoder *w, const Layer *l, float *qkv, int64_t position) {
  const long D = w->head_dim, turned = w->heads + w->kv_heads;
  if (l->qk_norm)
    for (long h = 0; h < turned; h++) rms_norm(qkv + h * D, l->qk_norm + h * D, l->qk_eps, D, qkv + h * D);
  if (l->q_norm && l->k_norm) {
    rms_norm(qkv, l->q_norm, l->q_eps, w->heads * D, qkv);
    rms_norm(qkv + w->heads * D, l->k_norm, l->k_eps, w->kv_heads * D, qkv + w->heads * D);
  }
  if (!l->turn) return;
  const float *angle = l->turn + position * l->turned;
  for (long h = 0; h < turned; h++)
    for (long d = 0; d < l->turned; d += 2) {
      float *x = qkv + h * D + d;
      const float re = x[0] * angle[d] - x[1] * angle[d + 1], im = x[0] * angle[d + 1] + x[1] * angle[d];
      x[0] = re, x[1] = im;
    }
}

// gate [n] = act(gate) * up
static void gated(float *gate, const float *up, long n, int gelu) {
  long i = 0;
  for (; i < n; i += 8) {
    float g8[8] = {0}, u8[8] = {0};
    const long width = n - i < 8 ? n - i : 8;
    memcpy(g8, gate + i, width * sizeof(float)), memcpy(u8, up + i, width * sizeof(float));
    const v8 g = load(g8), u = load(u8);
    v8 a;
    if (gelu) { // tanh form: g * sigmoid(2 sqrt(2 / pi) (g + 0.044715 g^3))
      a = g / (1.0f + expv(-1.5957691216057308f * (g + 0.044715f * g * g * g)));
    } else
      a = g / (1.0f + expv(-g));
    store(g8, a * u);
    memcpy(gate + i, g8, width * sizeof(float));
  }
}

// x += residual * norm(y W + b), the norm where there is one
static void add_block(const Decoder *w, const float *y, long ys, const float *weight, const float *bias, const float *norm, float eps,
                      long K, float *x, float *room, long m) {
  const long h = w->hidden;
  if (!norm) {
    product(y, ys, m, weight, bias, K, h, x, h, 1, w->residual);
    return;
  }
  product(y, ys, m, weight, bias, K, h, room, h, 0, 1.0f);
  for (long i = 0; i < m; i++) {
    rms_norm(room + i * h, norm, eps, h, room + i * h);
    for (long j = 0; j < h; j++) x[i * h + j] += w->residual * room[i * h + j];
  }
}

INLINE long most(long a, long b) { return a > b ? a : b; }

// Floats of scratch that a step of so many rows over at most so many keys needs.
int64_t scratch(const Decoder *w, int64_t rows, int64_t keys) {
  const long qkv = (w->heads + 2 * w->kv_heads) * w->head_dim;
  return rows * (2 * w->hidden + most(qkv, w->hidden) + w->heads * w->head_dim + 2 * w->inner) + keys + 8;
}

// One token for every row through layers from .. to: writes keys and values into the rows' own caches. The states [rows, hidden] lie at the
// beginning of the scratch, so that a caller may change them between layers; in the end, if asked, the next token's logits.
void decode(const Decoder *w, const Step *s, int64_t from, int64_t to, int64_t logits) {
  const long m = s->rows, h = w->hidden, D = w->head_dim, H = w->heads, G = w->kv_heads, wide = (H + 2 * G) * D, rep = H / G;
  float *x = s->scratch, *y = x + m * h, *qkv = y + m * h, *attended = qkv + m * most(wide, h), *up = attended + m * H * D,
        *score = up + m * 2 * w->inner;
  for (long i = 0; i < m && from == 0; i++)
    for (long j = 0; j < h; j++) x[i * h + j] = w->embed[s->token[i] * h + j] * w->embed_scale;
  for (long n = from; n < to; n++) {
    const Layer *l = w->layer + n;
    for (long i = 0; i < m && l->attn_norm; i++) rms_norm(x + i * h, l->attn_norm, l->attn_eps, h, y + i * h);
    product(l->attn_norm ? y : x, h, m, l->qkv, l->qkv_bias, h, wide, qkv, wide, 0, 1.0f);
    for (long i = 0; i < m; i++) {
      float *mine = qkv + i * wide, *cache = s->own + n * s->own_layer + i * s->own_row;
      const float *pool = s->pool + n * s->pool_layer + s->place[i] * s->pool_row;
      const long len = s->length[i], base = s->base[i], position = base + len;
      place_heads(w, l, mine, position);
      for (long g = 0; g < 2 * G; g++) memcpy(cache + g * s->own_head + len * D, mine + (H + g) * D, D * sizeof(float));
      const long first = l->window && position + 1 > l->window ? position + 1 - l->window : 0;
      const long from0 = first < base ? first : base, from1 = first > base ? first - base : 0;
      for (long g = 0; g < G; g++) {
        const float *k0 = pool + g * s->pool_head + from0 * D, *v0 = k0 + G * s->pool_head;
        const float *k1 = cache + g * s->own_head + from1 * D, *v1 = k1 + G * s->own_head;
        for (long r = g * rep; r < (g + 1) * rep; r++)
          attend_one(mine + r * D, k0, v0, base - from0, k1, v1, len + 1 - from1, D, w->scale, score,
                     attended + (i * H + r) * D);
      }
    }
    add_block(w, attended, H * D, l->out, l->out_bias, l->after_attn, l->after_attn_eps, H * D, x, qkv, m);
    for (long i = 0; i < m && l->mlp_norm; i++) rms_norm(x + i * h, l->mlp_norm, l->mlp_eps, h, y + i * h);
    product(l->mlp_norm ? y : x, h, m, l->gate_up, l->gate_up_bias, h, 2 * w->inner, up, 2 * w->inner, 0, 1.0f);
    for (long i = 0; i < m; i++) gated(up + i * 2 * w->inner, up + i * 2 * w->inner + w->inner, w->inner, (int)w->gelu);
    add_block(w, up, 2 * w->inner, l->down, l->down_bias, l->after_mlp, l->after_mlp_eps, w->inner, x, qkv, m);
  }
  if (!logits) return;
  for (long i = 0; i < m; i++) rms_norm(x + i * h, w->norm, w->norm_eps, h, y + i * h);
  product(y, h, m, w->head, w->head_bias, h, w->vocab, s->logits, w->vocab, 0, 1.0f);
}

// Attention of the flat layout. A group is a prompt, which sees itself causally, and answers that see the prompt and themselves causally.
// All arrays are [T, heads, D] with D contiguous; *_t and *_h are strides of a token and of a head. lse is [T, H].
typedef struct {
  const float *q, *k, *v, *cosine, *sine; // cosine and sine [T, D] turn queries and keys, or are 0: they are turned already
  float *out, *lse;
  const float *dout;
  float *dq, *dk, *dv;
  int64_t q_t, q_h, k_t, k_h, v_t, v_h; // out, dout, dq are [T, H, D] and dk, dv [T, Hkv, D] contiguous
  int64_t heads, kv_heads, head_dim, window;
  float scale;
} Attention;

#define BLOCK 24 // queries whose gradients reach keys and values together

// Keys and values of a run of tokens: as panels of tokens ([D][PANEL] each) for products over D, as rows [n][D] for products over tokens.
// Tokens beyond n are zeros up to the next panel.
typedef struct {
  float *kp, *vp, *kr, *vr, *dk, *dv;
  long n;
} Run;

// m heads, xs apart, at tokens from start on, turned to their positions (rotary, halves as pairs; Su et al. 2021, arXiv:2104.09864).
static void turned(const Attention *a, const float *x, long xs, long start, long m, float *out) {
  const long D = a->head_dim, half = D / 2;
  for (long i = 0; i < m; i++, x += xs, out += D) {
    const float *c = a->cosine + (start + i) * D, *s = a->sine + (start + i) * D;
    for (long d = 0; d < half; d += 8) {
      const v8 u = load(x + d), w = load(x + half + d);
      store(out + d, u * load(c + d) - w * load(s + d));
      store(out + half + d, w * load(c + half + d) + u * load(s + half + d));
    }
  }
}

// The transposed turn, in place: gradients of turned heads become those of the heads.
static void turned_back(const Attention *a, float *x, long xs, long start, long m) {
  const long D = a->head_dim, half = D / 2;
  for (long i = 0; i < m; i++, x += xs) {
    const float *c = a->cosine + (start + i) * D, *s = a->sine + (start + i) * D;
    for (long d = 0; d < half; d += 8) {
      const v8 u = load(x + d), w = load(x + half + d);
      store(x + d, u * load(c + d) + w * load(s + half + d));
      store(x + half + d, w * load(c + half + d) - u * load(s + d));
    }
  }
}

// Queries of head h at tokens from start on: where they are, or turned in room; their distance is *apart.
static const float *asked(const Attention *a, long h, long start, long m, float *room, long *apart) {
  const float *q = a->q + start * a->q_t + h * a->q_h;
  *apart = a->cosine ? a->head_dim : a->q_t;
  if (a->cosine) turned(a, q, a->q_t, start, m, room);
  return a->cosine ? room : q;
}

static void read_run(const Attention *a, long g, long start, long n, int backward, Run *run) {
  const long D = a->head_dim;
  const float *k = a->k + start * a->k_t + g * a->k_h, *v = a->v + start * a->v_t + g * a->v_h;
  run->n = n;
  if (a->cosine)
    turned(a, k, a->k_t, start, n, run->kr);
  else
    for (long j = 0; j < n && backward; j++) memcpy(run->kr + j * D, k + j * a->k_t, D * sizeof(float));
  read_panels(a->cosine ? run->kr : k, a->cosine ? D : a->k_t, n, D, run->kp);
  for (long j = 0; j < n; j++) memcpy(run->vr + j * D, v + j * a->v_t, D * sizeof(float));
  if (!backward) return;
  read_panels(v, a->v_t, n, D, run->vp);
  memset(run->dk, 0, n * D * sizeof(float)), memset(run->dv, 0, n * D * sizeof(float));
}

// What queries i0 .. i0 + m of a segment see: all of the prefix and themselves; columns are the prefix, padded to panels, then the own run.
// low and high are the first column that query i sees, and the first it does not see, of each of the two.
INLINE void sight(const Attention *a, const Run *prefix, long i, long *low0, long *low1) {
  const long before = prefix ? prefix->n : 0, first = a->window && before + i + 1 > a->window ? before + i + 1 - a->window : 0;
  *low0 = first < before ? first : before;
  *low1 = first > before ? first - before : 0;
}

// c [m, columns of the runs] = x [m, D] times keys (or values) of both runs, own columns up to `most`; c's rows lie cs apart.
static void against(const float *x, long xs, long m, const float *prefix, long n0, const float *own, long most, long D, float *c, long cs) {
  for (long j = 0; j < n0; j += PANEL) tiles(m, x, xs, prefix + j * D, PANEL, c + j, cs, D, 0);
  for (long j = 0; j < most; j += PANEL) tiles(m, x, xs, own + j * D, PANEL, c + ROUND(n0) + j, cs, D, 0);
}

// y [m, D] = (add ? y : 0) + weights [m, columns] times rows of both runs. D is a multiple of WIDE.
static void over(const float *weight, long ws, long m, const float *prefix, long n0, const float *own, long most, long D, float *y, long ys) {
  long d = 0;
  for (; d + PANEL <= D; d += PANEL) {
    tiles(m, weight, ws, prefix + d, D, y + d, ys, n0, 0);
    tiles(m, weight + ROUND(n0), ws, own + d, D, y + d, ys, most, 1);
  }
  for (; d < D; d += WIDE) {
    tiles_half(m, weight, ws, prefix + d, D, y + d, ys, n0, 0);
    tiles_half(m, weight + ROUND(n0), ws, own + d, D, y + d, ys, most, 1);
  }
}

// Scores of one query become weights e^(scale score - shift), 0 where it does not see; the sum of them.
static float weigh(float *row, long n0, long low0, long low1, long high1, long end1, float scale, float shift) {
  const long N0 = ROUND(n0), N1 = ROUND(end1);
  v8 total = all(0.0f);
  for (long j = 0; j < low0; j++) row[j] = -INFINITY;
  for (long j = n0; j < N0; j++) row[j] = -INFINITY;
  for (long j = 0; j < low1; j++) row[N0 + j] = -INFINITY;
  for (long j = high1; j < N1; j++) row[N0 + j] = -INFINITY;
  for (long j = 0; j < N0 + N1; j += 8) {
    const v8 p = expv(scale * load(row + j) - shift);
    store(row + j, p);
    total += p;
  }
  return sum(total);
}

// The largest scaled score that a query sees. Columns beyond what it sees hold numbers as well, so ends are looked at one by one.
static float highest(const float *row, long n0, long low0, long low1, long high1, float scale) {
  float top = -INFINITY;
  const long from[2] = {low0, ROUND(n0) + low1}, to[2] = {n0, ROUND(n0) + high1};
  for (int part = 0; part < 2; part++) {
    long j = from[part];
    v8 most8 = all(-INFINITY);
    for (; j + 8 <= to[part]; j += 8) most8 = larger(most8, load(row + j));
    for (int i = 0; i < 8; i++) top = most8[i] > top ? most8[i] : top;
    for (; j < to[part]; j++) top = row[j] > top ? row[j] : top;
  }
  return scale * top;
}

static void segment_forward(const Attention *a, long h, const Run *prefix, const Run *own, long start, float *room) {
  const long D = a->head_dim, n0 = prefix ? prefix->n : 0, N = ROUND(n0) + ROUND(own->n);
  for (long i0 = 0; i0 < own->n; i0 += TILE) {
    const long m = own->n - i0 < TILE ? own->n - i0 : TILE, most = i0 + m;
    float *out = a->out + ((start + i0) * a->heads + h) * D;
    long apart;
    const float *q = asked(a, h, start + i0, m, room + TILE * N, &apart);
    against(q, apart, m, prefix ? prefix->kp : 0, n0, own->kp, most, D, room, N);
    float total[TILE];
    for (long i = 0; i < m; i++) {
      long low0, low1;
      sight(a, prefix, i0 + i, &low0, &low1);
      const float top = highest(room + i * N, n0, low0, low1, i0 + i + 1, a->scale);
      total[i] = weigh(room + i * N, n0, low0, low1, i0 + i + 1, most, a->scale, top);
      a->lse[(start + i0 + i) * a->heads + h] = top + logf(total[i]);
    }
    over(room, N, m, prefix ? prefix->vr : 0, n0, own->vr, most, D, out, a->heads * D);
    for (long i = 0; i < m; i++)
      for (long d = 0; d < D; d++) out[i * a->heads * D + d] /= total[i];
  }
}

// d [n, D] += weights [m, n]^T times x [m, D]
static void back(const float *weight, long ws, long m, const float *x, long xs, long n, long D, float *d) {
  long at = 0;
  for (; at + PANEL <= D; at += PANEL) tiles_across(n, weight, ws, x + at, xs, d + at, D, m, 1);
  for (; at < D; at += WIDE) tiles_across_half(n, weight, ws, x + at, xs, d + at, D, m, 1);
}

static void segment_backward(const Attention *a, long h, const Run *prefix, const Run *own, long start, float *room) {
  const long D = a->head_dim, n0 = prefix ? prefix->n : 0, N0 = ROUND(n0), N = N0 + ROUND(own->n), HD = a->heads * D;
  float *p = room, *ds = room + BLOCK * N, *turn = ds + BLOCK * N;
  for (long b0 = 0; b0 < own->n; b0 += BLOCK) {
    const long rows = own->n - b0 < BLOCK ? own->n - b0 : BLOCK, end = b0 + rows;
    long apart;
    const float *q = asked(a, h, start + b0, rows, turn, &apart), *dout = a->dout + ((start + b0) * a->heads + h) * D;
    for (long i0 = b0; i0 < end; i0 += TILE) {
      const long m = end - i0 < TILE ? end - i0 : TILE, most = i0 + m, at = i0 - b0;
      against(q + at * apart, apart, m, prefix ? prefix->kp : 0, n0, own->kp, most, D, p + at * N, N);
      against(dout + at * HD, HD, m, prefix ? prefix->vp : 0, n0, own->vp, most, D, ds + at * N, N);
      for (long i = 0; i < m; i++) {
        long low0, low1;
        sight(a, prefix, i0 + i, &low0, &low1);
        float *pi = p + (at + i) * N, *di = ds + (at + i) * N;
        const long place = (start + i0 + i) * a->heads + h;
        weigh(pi, n0, low0, low1, i0 + i + 1, most, a->scale, a->lse[place]);
        v8 along = all(0.0f);
        for (long d = 0; d < D; d += 8) along += load(dout + (at + i) * HD + d) * load(a->out + place * D + d);
        const float delta = sum(along);
        const long used = N0 + ROUND(most);
        for (long j = 0; j < used; j += 8) store(di + j, a->scale * load(pi + j) * (load(di + j) - delta));
        // Later queries of the block see further: here their keys have weight 0.
        for (long j = used; j < N0 + ROUND(end); j++) pi[j] = di[j] = 0.0f;
      }
      float *dq = a->dq + ((start + i0) * a->heads + h) * D;
      over(ds + at * N, N, m, prefix ? prefix->kr : 0, n0, own->kr, most, D, dq, HD);
      if (a->cosine) turned_back(a, dq, HD, start + i0, m);
    }
    if (prefix) {
      back(p, N, rows, dout, HD, n0, D, prefix->dv);
      back(ds, N, rows, q, apart, n0, D, prefix->dk);
    }
    back(p + N0, N, rows, dout, HD, end, D, own->dv);
    back(ds + N0, N, rows, q, apart, end, D, own->dk);
  }
}

static void write_run(const Attention *a, long g, long start, const Run *run) {
  if (a->cosine) turned_back(a, run->dk, a->head_dim, start, run->n);
  for (long j = 0; j < run->n; j++) {
    const long at = ((start + j) * a->kv_heads + g) * a->head_dim;
    memcpy(a->dk + at, run->dk + j * a->head_dim, a->head_dim * sizeof(float));
    memcpy(a->dv + at, run->dv + j * a->head_dim, a->head_dim * sizeof(float));
  }
}

static float *cut(float **room, long floats) {
  float *at = *room;
  *room += floats;
  return at;
}

static Run new_run(float **room, long n, long D) {
  Run run = {.n = n};
  run.kp = cut(room, ROUND(n) * D), run.vp = cut(room, ROUND(n) * D), run.kr = cut(room, n * D), run.vr = cut(room, n * D);
  run.dk = cut(room, n * D), run.dv = cut(room, n * D);
  return run;
}

// Floats that `attend` needs for prompts and answers of at most so many tokens.
int64_t attend_scratch(int64_t prompt, int64_t answer, int64_t head_dim) {
  const long longest = most(prompt, answer);
  return head_dim * (2 * (ROUND(prompt) + ROUND(longest)) + 4 * (prompt + longest) + BLOCK) + 2 * BLOCK * (ROUND(prompt) + ROUND(longest));
}

// Forward (dout is 0) or backward of groups from .. to. A group g has its prompt at start[g], length[g], and the answers first[g] to
// first[g + 1]; an answer r lies at at[r], of size[r] tokens. The prompt's gradients are summed over its answers, in their order.
void attend(const Attention *a, int64_t from, int64_t to, const int64_t *start, const int64_t *length, const int64_t *first,
            const int64_t *at, const int64_t *size, float *scratch) {
  const long D = a->head_dim, rep = a->heads / a->kv_heads;
  const int backward = a->dout != 0;
  for (long g = from; g < to; g++)
    for (long kv = 0; kv < a->kv_heads; kv++) {
      float *room = scratch;
      Run prompt = new_run(&room, length[g], D);
      read_run(a, kv, start[g], length[g], backward, &prompt);
      for (long r = first[g]; r < first[g + 1]; r++) {
        float *rest = room;
        Run answer = new_run(&rest, size[r], D);
        read_run(a, kv, at[r], size[r], backward, &answer);
        for (long h = kv * rep; h < (kv + 1) * rep; h++)
          (backward ? segment_backward : segment_forward)(a, h, length[g] ? &prompt : 0, &answer, at[r], rest);
        if (backward) write_run(a, kv, at[r], &answer);
      }
      for (long h = kv * rep; h < (kv + 1) * rep && length[g]; h++)
        (backward ? segment_backward : segment_forward)(a, h, 0, &prompt, start[g], room);
      if (backward) write_run(a, kv, start[g], &prompt);
    }
}
