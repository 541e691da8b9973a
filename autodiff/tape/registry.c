/* The op registry: descriptors by name. One per process, filled with ours at the first use. */
#include "autodiff/tape/tape.h"

#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* uthash must never end the process: a failed allocation leaves the element out, which register() sees. */
#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) ((element)->op = NULL)
#include <uthash.h>

typedef struct registered {
    const ad_op *op;
    UT_hash_handle hh;
} registered;

static struct {
    pthread_mutex_t mutex;
    registered *by_name;
    const ad_op **in_order;
    int count, room;
    bool filled;
} registry = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* ---- what a descriptor must be ------------------------------------------------------------------------------- */

static bool is_identifier(const char *name) {
    if (!isalpha((unsigned char)name[0]) && name[0] != '_') return false;
    for (const char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '_') return false;
    return true;
}

const char *ad_op_flaw(const ad_op *op) {
    if (op->inputs < -1 || op->inputs > 65535) return ".inputs must be a number of inputs, or -1 for any";
    if (op->results < 0 || op->results > AD_MAX_RESULTS) return ".results must be 1 to 8";
    if (!op->shape) return "it has no shape rule (.shape)";
    if ((unsigned)op->derivative > AD_NOT_DIFFERENTIABLE) return ".derivative is none of ad_derivative";
    if (op->derivative == AD_DIFFERENTIABLE && !op->vjp)
        return "it has no .vjp; if it has no derivative, say so in .derivative";
    if (op->derivative != AD_DIFFERENTIABLE && (op->vjp || op->backward || op->scalar || op->flat))
        return "it has a .vjp, .backward, .scalar or .flat, but .derivative says that there is none";
    if (op->elementwise && (op->inputs < 1 || op->inputs > 2 || op->results > 1 || !op->forward))
        return ".elementwise is for ops with one or two inputs and one result, which .forward computes";
    if (op->flat && (!op->flat->value || !op->flat->adjoint)) return "its .flat rule lacks a function";
    if (op->flat && (!op->elementwise || op->attrs_size)) return ".flat is for .elementwise ops without attributes";
    if (!op->scalar) return NULL;
    if (!op->scalar->value || !op->scalar->adjoint) return "its .scalar rule lacks a function";
    if (op->inputs < 1 || op->inputs > 2 || op->results > 1)
        return ".scalar is for ops with one or two inputs and one result";
    return NULL;
}

/* What a registered op has beyond that, for people and for the laws. */
static const char *what_is_missing(const ad_op *op) {
    if (!is_identifier(op->name)) return "its name is not a C identifier";
    if (op->saves >> (16 + ad_op_results(op))) return ".saves names a result that it does not have";
    if (!op->formula) return "it has no .formula";
    if (ad_attrs_flaw(op)) return ad_attrs_flaw(op);
    if (op->derivative == AD_DIFFERENTIABLE && !op->adjoint[0]) return "it has no .adjoint formula for input 0";
    if (!op->sample) return "it has no .sample, so that nothing could check it";
    return NULL;
}

/* Sample 0 can be made, and has as many inputs as the op takes. */
static ad_status check_sample(const ad_op *op, const ad_allocator *allocator, ad_error *error) {
    ad_sample sample = {.rng = {1, 0}, .dtype = AD_F64, .allocator = allocator};
    bool made = op->sample(&sample, 0);
    for (int i = 0; i < sample.inputs; i++) ad_tensor_unref(sample.input[i]);
    if (sample.error.status)
        return ad_error_set(error, sample.error.status, "op %s: %s", op->name, sample.error.message);
    if (!made)
        return ad_error_set(error, AD_ERR_OP, "op %s: .sample makes no sample 0, so that nothing could check it",
                            op->name);
    if (op->inputs >= 0 ? sample.inputs == op->inputs : sample.inputs > 0) return AD_OK;
    return ad_error_set(error, AD_ERR_OP, "op %s: sample 0 has %d inputs, but .inputs is %d", op->name, sample.inputs,
                        op->inputs);
}

ad_status ad_op_validate(const ad_op *op, const ad_allocator *allocator, ad_error *error) {
    if (!op || !op->name) return ad_error_set(error, AD_ERR_NULL, "ad_op_register: %s is NULL", op ? "name" : "op");
    const char *wrong = ad_op_flaw(op);
    if (!wrong) wrong = what_is_missing(op);
    if (wrong) return ad_error_set(error, AD_ERR_OP, "op %s: %s", op->name, wrong);
    return check_sample(op, allocator, error);
}

/* ---- the table, under the mutex -------------------------------------------------------------------------------- */

static const ad_op *find(const char *name) {
    registered *entry = NULL;
    HASH_FIND_STR(registry.by_name, name, entry);
    return entry ? entry->op : NULL;
}

static bool insert(const ad_op *op) {
    if (registry.count == registry.room) {
        int room = registry.room ? registry.room * 2 : 64;
        const ad_op **in_order = realloc(registry.in_order, (size_t)room * sizeof *in_order);
        if (!in_order) return false;
        registry.in_order = in_order;
        registry.room = room;
    }
    registered *entry = malloc(sizeof *entry);
    if (!entry) return false;
    entry->op = op;
    HASH_ADD_KEYPTR(hh, registry.by_name, op->name, strlen(op->name), entry);
    if (!entry->op) {
        free(entry);
        return false;
    }
    registry.in_order[registry.count++] = op;
    return true;
}

static void lock(void) {
    pthread_mutex_lock(&registry.mutex);
    if (registry.filled) return;
    registry.filled = true;
    for (const ad_op *const *op = ad_builtin_ops; *op; op++)
        if (!find((*op)->name) && !insert(*op)) registry.filled = false; /* no memory: try again at the next use */
}

static void unlock(void) { pthread_mutex_unlock(&registry.mutex); }

ad_status ad_op_register(const ad_op *op, ad_error *error) {
    ad_status status = ad_op_validate(op, ad_allocator_default(), error);
    if (status) return status;
    lock();
    const ad_op *present = find(op->name);
    bool inserted = !present && insert(op);
    unlock();
    if (inserted) return AD_OK;
    if (present == op) return AD_OK;
    if (present) return ad_error_set(error, AD_ERR_OP, "op %s: another op of this name is registered", op->name);
    return ad_error_set(error, AD_ERR_OOM, "op %s: out of memory for its registration", op->name);
}

const ad_op *ad_op_find(const char *name) {
    if (!name) return NULL;
    lock();
    const ad_op *op = find(name);
    unlock();
    return op;
}

int ad_op_count(void) {
    lock();
    int count = registry.count;
    unlock();
    return count;
}

const ad_op *ad_op_at(int i) {
    lock();
    const ad_op *op = i >= 0 && i < registry.count ? registry.in_order[i] : NULL;
    unlock();
    return op;
}
