/* Colourings of columns, after Gebremedhin, Manne and Pothen 2005, "What color is your Jacobian?", SIAM Review 47(4). */
#include "autodiff/transform/coloring.h"

#include <stdbool.h>

enum { NONE = -1 };

/* A greedy colouring under way: colour c is forbidden to column v if forbidden[c] is v. */
typedef struct greedy {
    int64_t *color, *forbidden;
    int64_t count; /* colours so far */
} greedy;

static greedy begin(const ad_pattern *pattern, int64_t *color, int64_t *forbidden) {
    for (int64_t v = 0; v <= pattern->columns; v++) forbidden[v] = NONE;
    for (int64_t v = 0; v < pattern->columns; v++) color[v] = NONE;
    return (greedy){.color = color, .forbidden = forbidden, .count = 0};
}

static void forbid(greedy *g, int64_t v, int64_t other) {
    if (g->color[other] != NONE && other != v) g->forbidden[g->color[other]] = v;
}

static void give_first(greedy *g, int64_t v) {
    int64_t c = 0;
    while (g->forbidden[c] == v) c++;
    g->color[v] = c;
    if (c == g->count) g->count++;
}

int64_t ad_color_columns(const ad_pattern *pattern, const ad_pattern *transposed, int64_t *color,
                         int64_t *forbidden) {
    greedy g = begin(pattern, color, forbidden);
    for (int64_t v = 0; v < pattern->columns; v++) {
        for (int64_t i = transposed->start[v]; i < transposed->start[v + 1]; i++) {
            int64_t row = transposed->column[i];
            for (int64_t k = pattern->start[row]; k < pattern->start[row + 1]; k++) forbid(&g, v, pattern->column[k]);
        }
        give_first(&g, v);
    }
    return g.count;
}

int64_t ad_color_neighbours(const ad_pattern *symmetric, int64_t *color, int64_t *forbidden) {
    greedy g = begin(symmetric, color, forbidden);
    for (int64_t v = 0; v < symmetric->columns; v++) {
        for (int64_t i = symmetric->start[v]; i < symmetric->start[v + 1]; i++) forbid(&g, v, symmetric->column[i]);
        give_first(&g, v);
    }
    return g.count;
}

/* Whether a neighbour of x other than w has w's colour. */
static bool ends_path(const ad_pattern *p, const int64_t *color, int64_t x, int64_t w) {
    for (int64_t i = p->start[x]; i < p->start[x + 1]; i++) {
        int64_t y = p->column[i];
        if (y != w && y != x && color[y] == color[w]) return true;
    }
    return false;
}

/* What v's neighbour w forbids: its own colour, and that of another neighbour x of w where v - w - x would be, or could
 * become, part of a path in two colours: x has one more neighbour of w's colour, or w is not coloured yet. Because of the
 * latter, neighbours of v that are coloured before it differ among themselves, so that v is never inside such a path. */
static void forbid_around(greedy *g, const ad_pattern *p, int64_t v, int64_t w) {
    forbid(g, v, w);
    for (int64_t i = p->start[w]; i < p->start[w + 1]; i++) {
        int64_t x = p->column[i];
        if (x == v || x == w || g->color[x] == NONE) continue;
        if (g->color[w] == NONE || ends_path(p, g->color, x, w)) forbid(g, v, x);
    }
}

int64_t ad_color_star(const ad_pattern *symmetric, int64_t *color, int64_t *forbidden) {
    greedy g = begin(symmetric, color, forbidden);
    for (int64_t v = 0; v < symmetric->columns; v++) {
        for (int64_t i = symmetric->start[v]; i < symmetric->start[v + 1]; i++)
            if (symmetric->column[i] != v) forbid_around(&g, symmetric, v, symmetric->column[i]);
        give_first(&g, v);
    }
    return g.count;
}
