/* What a dump is made from, as the formats see it; and a tape as such a source. */
#include "autodiff/dump/dump.h"
#include "autodiff/tape/tape.h"

/* ---- any source ------------------------------------------------------------------------------------------------ */

ad_node_info ad_dump_node(const ad_dump *dump, int64_t index) {
    ad_node_info node;
    dump->source.node(dump->source.user, index, &node); /* only nodes that there are, are asked for */
    return node;
}

ad_scope_info ad_dump_scope(const ad_dump *dump, int64_t number) {
    ad_scope_info scope;
    dump->source.scope(dump->source.user, number, &scope);
    return scope;
}

bool ad_dump_saved(const ad_dump *dump, int64_t index, int *cursor, ad_saved *saved) {
    return dump->source.saved(dump->source.user, index, cursor, saved);
}

int64_t ad_dump_term_count(const ad_dump *dump, int64_t index) {
    return dump->source.terms(dump->source.user, index);
}

bool ad_dump_term(const ad_dump *dump, int64_t index, int64_t n, ad_contribution *term) {
    return n < dump->most_terms && dump->source.term(dump->source.user, index, n, term);
}

/* A contribution that cannot be had is not shown; only lack of memory is a failure of the dump. */
ad_tensor *ad_dump_term_value(ad_dump *dump, const ad_contribution *term) {
    ad_tensor *value = NULL;
    if (dump->source.term_value(dump->source.user, term->consumer, term->input, &value) == AD_ERR_OOM)
        ad_dump_fail(dump, AD_ERR_OOM);
    return value;
}

ad_tensor *ad_dump_jacobian(ad_dump *dump, int64_t index, int input) {
    ad_tensor *value = NULL;
    if (dump->source.jacobian(dump->source.user, index, input, &value) == AD_ERR_OOM) ad_dump_fail(dump, AD_ERR_OOM);
    return value;
}

/* ---- a tape ---------------------------------------------------------------------------------------------------- */

static ad_status tape_node(void *user, int64_t index, ad_node_info *info) {
    return ad_tape_node(((ad_tape_source *)user)->tape, index, info);
}

static ad_status tape_scope(void *user, int64_t number, ad_scope_info *info) {
    return ad_tape_scope(((ad_tape_source *)user)->tape, number, info);
}

static ad_status tape_totals(void *user, ad_totals *totals) {
    return ad_tape_totals(((ad_tape_source *)user)->tape, totals);
}

static bool tape_saved(void *user, int64_t index, int *cursor, ad_saved *saved) {
    return ad_tape_saved(((ad_tape_source *)user)->tape, index, cursor, saved);
}

static ad_status tape_look(void *user, int window, int64_t first, int64_t end, int64_t most) {
    ad_tape_source *source = user;
    return ad_contributors_new(&source->contributors[window], source->tape, first, end, most);
}

static int64_t tape_terms(void *user, int64_t index) {
    const ad_tape_source *source = user;
    return ad_contributors_count(source->contributors[0], index) +
           ad_contributors_count(source->contributors[1], index);
}

static bool tape_term(void *user, int64_t index, int64_t n, ad_contribution *term) {
    const ad_tape_source *source = user;
    return ad_contributors_at(source->contributors[0], index, n, term) ||
           ad_contributors_at(source->contributors[1], index, n, term);
}

static ad_status tape_term_value(void *user, int64_t consumer, int input, ad_tensor **out) {
    return ad_tape_contribution(((ad_tape_source *)user)->tape, consumer, input, out);
}

static ad_status tape_jacobian(void *user, int64_t index, int input, ad_tensor **out) {
    return ad_tape_local_jacobian(((ad_tape_source *)user)->tape, index, input, out);
}

ad_dump_source ad_tape_source_open(ad_tape_source *source, ad_tape *tape) {
    *source = (ad_tape_source){.tape = tape};
    ad_dump_source opened = {
        .user = source,
        .allocator = tape->allocator,
        .size = ad_tape_size(tape),
        .scopes = ad_tape_scope_count(tape),
        .status = ad_tape_status(tape),
        .error = ad_tape_error(tape),
        .node = tape_node,
        .scope = tape_scope,
        .totals = tape_totals,
        .saved = tape_saved,
        .look = tape_look,
        .terms = tape_terms,
        .term = tape_term,
        .term_value = tape_term_value,
        .jacobian = tape_jacobian,
    };
    ad_tape_pass(tape, &opened.pass);
    return opened;
}

void ad_tape_source_close(ad_tape_source *source) {
    for (int w = 0; w < 2; w++) ad_contributors_free(source->contributors[w]);
}
