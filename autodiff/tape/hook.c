/* Hooks: functions of the user's that see the gradient of a node when it is complete, and may change it. */
#include "autodiff/tape/tape.h"

typedef struct ad_hook {
    ad_gradient_function f;
    void *user;
    struct ad_hook *next;
} ad_hook;

ad_status ad_on_gradient_at(const char *where, ad_var x, ad_gradient_function f, void *user) {
    const char *subject = "ad_on_gradient";
    if (!ad_check_var(x, subject, where)) return x.tape ? x.tape->error.status : AD_ERR_HANDLE;
    ad_tape *tape = x.tape;
    ad_node *node = ad_node_at(tape, x.index);
    if (!f) return ad_tape_fail(tape, AD_ERR_NULL, subject, where, "the function is NULL");
    if (!(node->flags & AD_NODE_GRAD)) {
        char text[AD_TYPE_TEXT + 128];
        ad_node_text(tape, x.index, true, text, sizeof text);
        return ad_tape_fail(tape, AD_ERR_NOGRAD, subject, where,
                            "%s, and has no gradient: it does not depend on a leaf that gets one", text);
    }
    ad_extra *extra = ad_node_extra(tape, node);
    ad_hook *hook = ad_arena_take(&tape->extras, sizeof *hook);
    if (!extra || !hook || !ad_list_reserve(&tape->named, tape->allocator, 1))
        return ad_tape_out_of_memory(tape, subject, where);
    *hook = (ad_hook){.f = f, .user = user};
    ad_hook **end = &extra->hook;
    while (*end) end = &(*end)->next;
    *end = hook;
    ad_list_push(&tape->named, x.index);
    /* No short cut for this one: the walk has to stop here. */
    node->flags = (uint16_t)((node->flags | AD_NODE_HOOKED) & ~AD_NODE_FAST);
    return AD_OK;
}

bool ad_hooks_run(ad_tape *tape, uint32_t index, const ad_view *gradient) {
    tape->in_hook = true;
    for (const ad_hook *hook = ad_node_at(tape, index)->extra->hook; hook && !tape->error.status; hook = hook->next)
        hook->f(hook->user, ad_var_of(tape, index), gradient);
    tape->in_hook = false;
    return !tape->error.status;
}
