/* Dumps read back. The file is not trusted: what the library would otherwise be right to rely on is checked here, and a
 * node that the file only mentions by number is an empty one. */
#include "tools/adtape/reader.h"

#include <cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct read_value {
    ad_tensor *tensor; /* NULL: the elements were not kept */
    ad_view view;
} read_value;

typedef struct read_term {
    ad_contribution term;
    ad_tensor *value; /* NULL: it has none */
} read_term;

typedef struct read_jacobian {
    int input;
    ad_tensor *value;
} read_jacobian;

typedef struct read_node {
    ad_node_info info;
    uint32_t *input;
    read_value value, gradient;
    ad_saved *saved;
    read_term *term;
    read_jacobian *jacobian;
    int saved_count, term_count, jacobian_count;
    int64_t all_terms;
} read_node;

struct cmd_reader {
    cJSON *json;
    const char *path;
    cmd_fault *fault;
    ad_op *op;
    int ops;
    ad_scope_info *scope;
    ad_totals *totals;
    int64_t scopes;
    read_node *node; /* by index, those outside of the ranges too */
    int nodes;
    ad_param *parameter; /* stands for every parameter */
    int64_t size, first, end, shown;
    ad_status status;
    ad_pass_info pass;
    int precision;
};

/* ---- members ----------------------------------------------------------------------------------------------------- */

/* The first thing that is wrong is told; what follows goes on with zeros. */
static void complain(cmd_reader *r, const char *what, const char *name) {
    if (!r->fault->status)
        set_fault(r->fault, STATUS_WRONG, "%s is not a dump of a tape, as of AD_DUMP_JSON: %s%s", r->path, what,
                  name);
}

static const cJSON *member(const cJSON *object, const char *name) {
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static double integer_in(cmd_reader *r, const cJSON *item, const char *name, double least, double most) {
    if (cJSON_IsNumber(item) && item->valuedouble >= least && item->valuedouble <= most &&
        item->valuedouble == floor(item->valuedouble))
        return item->valuedouble;
    complain(r, "there is no number, or a wrong one, where one should be: ", name);
    return least;
}

static const double exact = 9007199254740992.0; /* 2^53 */

static int64_t integer_member(cmd_reader *r, const cJSON *object, const char *name, double least, double most) {
    return (int64_t)integer_in(r, member(object, name), name, least, most);
}

static int64_t count_member(cmd_reader *r, const cJSON *object, const char *name) {
    return integer_member(r, object, name, 0, exact);
}

static const char *string_member(cmd_reader *r, const cJSON *object, const char *name) {
    const cJSON *item = member(object, name);
    if (cJSON_IsString(item)) return item->valuestring;
    complain(r, "there is no text where one should be: ", name);
    return "";
}

static bool flag_member(const cJSON *object, const char *name) { return cJSON_IsTrue(member(object, name)); }

static const cJSON *array_member(cmd_reader *r, const cJSON *object, const char *name) {
    const cJSON *item = member(object, name);
    if (cJSON_IsArray(item)) return item;
    complain(r, "there is no list where one should be: ", name);
    return NULL;
}

/* An array with room for what a list has; *count is how many that are. */
static void *array_for(const cJSON *list, size_t element, int *count) {
    *count = cJSON_GetArraySize(list);
    return allocate((size_t)*count * element);
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static double float_of(cmd_reader *r, const cJSON *item) {
    static const struct {
        const char *name;
        double value;
    } names[] = {{"NaN", NAN}, {"Infinity", INFINITY}, {"-Infinity", -INFINITY}};
    if (cJSON_IsNumber(item)) return item->valuedouble;
    for (size_t i = 0; cJSON_IsString(item) && i < sizeof names / sizeof *names; i++)
        if (strcmp(item->valuestring, names[i].name) == 0) return names[i].value;
    complain(r, "an element is not a number", "");
    return 0;
}

static int64_t whole_of(cmd_reader *r, const cJSON *item) {
    if (!cJSON_IsString(item)) return (int64_t)integer_in(r, item, "elements", -exact, exact);
    char *end;
    errno = 0;
    long long value = strtoll(item->valuestring, &end, 10);
    if (errno || *end || end == item->valuestring) complain(r, "an element is not an integer: ", item->valuestring);
    return value;
}

static void put_element(cmd_reader *r, const ad_view *view, int64_t i, const cJSON *item) {
    switch (view->dtype) {
    case AD_F32: ((float *)view->data)[i] = (float)float_of(r, item); break;
    case AD_F64: ((double *)view->data)[i] = float_of(r, item); break;
    case AD_I32: ((int32_t *)view->data)[i] = (int32_t)whole_of(r, item); break;
    default: ((int64_t *)view->data)[i] = whole_of(r, item); break;
    }
}

static ad_dtype read_type(cmd_reader *r, const cJSON *json, ad_shape *shape) {
    const char *name = string_member(r, json, "dtype");
    ad_dtype dtype = AD_F32;
    while (dtype < AD_DTYPE_COUNT && strcmp(name, ad_dtype_name(dtype)) != 0) dtype++;
    const cJSON *list = array_member(r, json, "shape"), *dimension;
    cJSON_ArrayForEach(dimension, list) {
        if (shape->rank == AD_MAX_RANK) break;
        shape->dim[shape->rank++] = (int64_t)integer_in(r, dimension, "shape", 0, exact);
    }
    if (dtype == AD_DTYPE_COUNT || ad_shape_count(shape) < 0) complain(r, "a value has no such type", "");
    return dtype;
}

static ad_tensor *read_tensor(cmd_reader *r, ad_dtype dtype, ad_shape shape, const cJSON *elements) {
    ad_tensor *tensor;
    if (ad_shape_count(&shape) != cJSON_GetArraySize(elements)) {
        complain(r, "a value has other elements than its shape says", "");
        return NULL;
    }
    if (ad_tensor_new(&tensor, NULL, dtype, shape, NULL, NULL)) {
        set_fault(r->fault, STATUS_SYSTEM, "there is not enough memory for %s", r->path);
        return NULL;
    }
    const cJSON *item;
    int64_t i = 0;
    cJSON_ArrayForEach(item, elements) put_element(r, ad_tensor_view(tensor), i++, item);
    return tensor;
}

static read_value read_one(cmd_reader *r, const cJSON *json) {
    ad_shape shape = {.rank = 0};
    read_value value = {.tensor = NULL};
    ad_dtype dtype = read_type(r, json, &shape);
    if (r->fault->status) return value;
    value.view = ad_view_of(NULL, dtype, shape);
    const cJSON *elements = member(json, "elements");
    if (elements) value.tensor = read_tensor(r, dtype, shape, elements);
    if (value.tensor) value.view = *ad_tensor_view(value.tensor);
    return value;
}

/* ---- ops and scopes ---------------------------------------------------------------------------------------------- */

/* Attributes were read as text. */
static void show_text(const void *attrs, char *text, size_t size) { snprintf(text, size, "%s", (const char *)attrs); }

static void read_texts(cmd_reader *r, const cJSON *json, const char *name, const char **text, int most) {
    const cJSON *item;
    int count = 0;
    cJSON_ArrayForEach(item, array_member(r, json, name)) {
        if (!cJSON_IsString(item) || count == most) {
            complain(r, "a formula is not a text, or there are too many: ", name);
            return;
        }
        text[count++] = item->valuestring;
    }
}

static void read_ops(cmd_reader *r) {
    const cJSON *list = array_member(r, r->json, "ops"), *json;
    r->op = array_for(list, sizeof *r->op, &r->ops);
    ad_op *op = r->op;
    cJSON_ArrayForEach(json, list) {
        op->name = string_member(r, json, "name");
        op->results = (int)integer_member(r, json, "results", 1, AD_MAX_RESULTS);
        op->formula = string_member(r, json, "formula");
        read_texts(r, json, "result_formulas", op->result_formula, AD_MAX_RESULTS - 1);
        read_texts(r, json, "adjoints", op->adjoint, 4);
        if (member(json, "convention")) op->convention = string_member(r, json, "convention");
        op->show_attrs = show_text;
        op++;
    }
}

static void read_scopes(cmd_reader *r) {
    const cJSON *list = array_member(r, r->json, "scopes"), *json;
    int count, i = 0;
    r->scope = array_for(list, sizeof *r->scope, &count);
    r->totals = allocate((size_t)count * sizeof *r->totals);
    r->scopes = count;
    if (count == 0) complain(r, "it has no scopes", "");
    cJSON_ArrayForEach(json, list) {
        ad_scope_info *scope = &r->scope[i];
        scope->path = string_member(r, json, "path");
        scope->name = string_member(r, json, "name");
        scope->parent = integer_member(r, json, "parent", i ? 0 : -1, i - 1.0);
        scope->depth = i && !r->fault->status ? r->scope[scope->parent].depth + 1 : 0;
        r->totals[i++] = (ad_totals){.nodes = count_member(r, json, "nodes"),
                                     .inputs = count_member(r, json, "inputs"),
                                     .constants = count_member(r, json, "constants"),
                                     .parameters = count_member(r, json, "parameters"),
                                     .operations = count_member(r, json, "operations"),
                                     .merges = count_member(r, json, "merges"),
                                     .saved_bytes = (uint64_t)count_member(r, json, "saved_bytes")};
    }
}

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

static void read_inputs(cmd_reader *r, const cJSON *json, read_node *node) {
    const cJSON *list = array_member(r, json, "inputs"), *item;
    node->input = array_for(list, sizeof *node->input, &node->info.inputs);
    int i = 0;
    cJSON_ArrayForEach(item, list) node->input[i++] = (uint32_t)integer_in(r, item, "inputs", 0, UINT32_MAX);
    node->info.input = node->input;
}

static void read_saved(cmd_reader *r, const cJSON *json, read_node *node) {
    const cJSON *list = member(json, "saved"), *item, *reader;
    node->saved = array_for(list, sizeof *node->saved, &node->saved_count);
    ad_saved *saved = node->saved;
    cJSON_ArrayForEach(item, list) {
        saved->node = count_member(r, item, "node");
        saved->input = (int)integer_member(r, item, "input", -1, INT32_MAX);
        saved->bytes = (uint64_t)count_member(r, item, "bytes");
        cJSON_ArrayForEach(reader, array_member(r, item, "for"))
            saved->read_for |= (uint64_t)1 << (int)integer_in(r, reader, "for", 0, 63);
        saved++;
    }
}

static void read_terms(cmd_reader *r, const cJSON *json, read_node *node) {
    const cJSON *list = member(json, "terms"), *item;
    node->term = array_for(list, sizeof *node->term, &node->term_count);
    if (list) node->all_terms = integer_member(r, json, "term_count", node->term_count, exact);
    read_term *term = node->term;
    cJSON_ArrayForEach(item, list) {
        term->term.consumer = count_member(r, item, "consumer");
        term->term.input = (int)integer_member(r, item, "input", 0, INT32_MAX);
        const cJSON *value = member(item, "value");
        if (value) term->value = read_one(r, value).tensor;
        term++;
    }
}

static void read_jacobians(cmd_reader *r, const cJSON *json, read_node *node) {
    const cJSON *list = member(json, "jacobians"), *item;
    node->jacobian = array_for(list, sizeof *node->jacobian, &node->jacobian_count);
    read_jacobian *jacobian = node->jacobian;
    cJSON_ArrayForEach(item, list) {
        jacobian->input = (int)integer_member(r, item, "input", 0, INT32_MAX);
        jacobian->value = read_one(r, member(item, "value")).tensor;
        jacobian++;
    }
}

/* What nodes have that are shown. */
static void read_shown(cmd_reader *r, const cJSON *json, read_node *node) {
    ad_node_info *info = &node->info;
    const cJSON *attrs = member(json, "attrs"), *gradient = member(json, "gradient");
    if (attrs) info->attrs = string_member(r, json, "attrs");
    if (member(json, "where")) info->where = string_member(r, json, "where");
    if (member(json, "scope")) info->scope_number = integer_member(r, json, "scope", 0, (double)r->scopes - 1);
    if (r->scopes > 0) info->scope = r->scope[info->scope_number].path;
    info->is_leaf = flag_member(json, "leaf");
    info->param = flag_member(json, "parameter") ? r->parameter : NULL;
    info->is_view = flag_member(json, "view");
    info->is_changed = flag_member(json, "changed");
    info->reached = flag_member(json, "reached");
    info->is_seed = flag_member(json, "seed");
    info->is_incomplete = flag_member(json, "incomplete");
    node->value = read_one(r, member(json, "value"));
    info->value = node->value.view;
    info->has_gradient = gradient != NULL;
    if (gradient) node->gradient = read_one(r, gradient);
    info->gradient = node->gradient.view;
    read_saved(r, json, node);
    read_terms(r, json, node);
    read_jacobians(r, json, node);
}

static void read_node_from(cmd_reader *r, const cJSON *json, read_node *node, bool is_shown) {
    ad_node_info *info = &node->info;
    info->index = count_member(r, json, "index");
    info->name = string_member(r, json, "name");
    info->scope = "";
    int64_t op = integer_member(r, json, "op", 0, r->ops - 1.0);
    if (r->fault->status) return;
    info->op = &r->op[op];
    read_inputs(r, json, node);
    if (member(json, "result")) info->result = (int)integer_member(r, json, "result", 1, AD_MAX_RESULTS - 1);
    if (info->result && info->inputs != 1) complain(r, "a result does not say of which operation", "");
    info->needs_gradient = flag_member(json, "needs_gradient");
    info->wanted = flag_member(json, "wanted");
    if (is_shown) read_shown(r, json, node);
}

static int by_index(const void *a, const void *b) {
    const read_node *p = a, *q = b;
    return (p->info.index > q->info.index) - (p->info.index < q->info.index);
}

static void read_nodes(cmd_reader *r) {
    const cJSON *shown = array_member(r, r->json, "nodes"), *outside = array_member(r, r->json, "outside"), *json;
    int count = cJSON_GetArraySize(shown), others = cJSON_GetArraySize(outside);
    r->node = allocate((size_t)(count + others) * sizeof *r->node);
    cJSON_ArrayForEach(json, shown) read_node_from(r, json, &r->node[r->nodes++], true);
    cJSON_ArrayForEach(json, outside) read_node_from(r, json, &r->node[r->nodes++], false);
    if (r->nodes > 0) qsort(r->node, (size_t)r->nodes, sizeof *r->node, by_index);
    if (count != r->shown) complain(r, "its nodes are not those of its ranges", "");
}

/* The results of one operation stand behind each other, and inputs in front of what reads them. */
static void check_nodes(cmd_reader *r) {
    for (int i = 0; i < r->nodes && !r->fault->status; i++) {
        const ad_node_info *info = &r->node[i].info;
        if (i > 0 && info->index == r->node[i - 1].info.index) complain(r, "a node is there twice", "");
        if (info->result && info->input[0] != info->index - info->result) complain(r, "results are out of order", "");
        for (int k = 0; k < info->inputs; k++)
            if (info->input[k] >= info->index) complain(r, "an input comes after the operation", "");
        for (int k = 0; k < r->node[i].saved_count; k++)
            if (r->node[i].saved[k].input >= info->inputs) complain(r, "an input that there is not is saved", "");
    }
}

static read_node *find_node(cmd_reader *r, int64_t index) {
    const read_node wanted = {.info = {.index = index}};
    return r->nodes ? bsearch(&wanted, r->node, (size_t)r->nodes, sizeof *r->node, by_index) : NULL;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static void read_ranges(cmd_reader *r) {
    const cJSON *list = array_member(r, r->json, "ranges"), *range;
    bool is_first = true;
    cJSON_ArrayForEach(range, list) {
        const cJSON *from = cJSON_GetArrayItem(range, 0), *to = cJSON_GetArrayItem(range, 1);
        int64_t first = (int64_t)integer_in(r, from, "ranges", (double)r->end, (double)r->size);
        if (is_first) r->first = first;
        r->end = (int64_t)integer_in(r, to, "ranges", (double)first, (double)r->size);
        r->shown += r->end - first;
        is_first = false;
    }
    if (is_first) complain(r, "it has no ranges", "");
}

static void read_pass(cmd_reader *r) {
    const cJSON *pass = member(r->json, "pass");
    r->pass.nodes = integer_member(r, pass, "nodes", 0, (double)r->size);
    r->pass.start = integer_member(r, pass, "start", -1, (double)r->size - 1);
    r->pass.is_selective = flag_member(pass, "selective");
}

static void read_head(cmd_reader *r) {
    const char *status = string_member(r, r->json, "status");
    if (strcmp(string_member(r, r->json, "format"), "adtape") != 0) complain(r, "it does not call itself one", "");
    integer_member(r, r->json, "version", 1, 1);
    while (r->status < AD_STATUS_COUNT && strcmp(status, ad_status_name(r->status)) != 0) r->status++;
    if (r->status == AD_STATUS_COUNT) complain(r, "there is no such status: ", status);
    r->size = integer_member(r, r->json, "size", 0, UINT32_MAX);
    r->precision = (int)integer_member(r, r->json, "precision", 1, 17);
}

static char *read_text(const char *path, cmd_fault *fault) {
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    char *text = NULL;
    size_t length = 0, room = 0;
    if (!file) {
        set_fault(fault, STATUS_SYSTEM, "%s: %s", path, strerror(errno));
        return NULL;
    }
    for (size_t n = 1; n > 0; length += n) {
        while (room < length + 65536) text = with_room(text, room, &room, 1);
        n = fread(text + length, 1, 65535, file);
        text[length + n] = '\0';
    }
    if (ferror(file)) set_fault(fault, STATUS_SYSTEM, "%s cannot be read: %s", path, strerror(errno));
    if (file != stdin) fclose(file);
    return text;
}

cmd_reader *open_reader(const char *path, cmd_fault *fault) {
    cmd_reader *r = allocate(sizeof *r);
    r->path = path;
    r->fault = fault;
    char *text = read_text(path, fault);
    if (text && !fault->status) r->json = cJSON_Parse(text);
    free(text);
    if (!fault->status && !cJSON_IsObject(r->json)) complain(r, "it is not JSON", "");
    if (!fault->status && ad_param_new(&r->parameter, NULL, "", AD_F64, AD_SCALAR, NULL, NULL))
        set_fault(fault, STATUS_SYSTEM, "out of memory");
    void (*const parts[])(cmd_reader *) = {read_head,   read_ranges, read_pass,  read_ops,
                                           read_scopes, read_nodes,  check_nodes};
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !fault->status; i++) parts[i](r);
    if (!fault->status) return r;
    close_reader(r);
    return NULL;
}

static void free_node(read_node *node) {
    for (int i = 0; i < node->term_count; i++) ad_tensor_unref(node->term[i].value);
    for (int i = 0; i < node->jacobian_count; i++) ad_tensor_unref(node->jacobian[i].value);
    ad_tensor_unref(node->value.tensor);
    ad_tensor_unref(node->gradient.tensor);
    free(node->input);
    free(node->saved);
    free(node->term);
    free(node->jacobian);
}

void close_reader(cmd_reader *r) {
    if (!r) return;
    for (int i = 0; i < r->nodes; i++) free_node(&r->node[i]);
    free(r->node);
    free(r->scope);
    free(r->totals);
    free(r->op);
    ad_param_unref(r->parameter);
    cJSON_Delete(r->json);
    free(r);
}

/* ---- as a source ------------------------------------------------------------------------------------------------- */

static ad_status reader_node(void *user, int64_t index, ad_node_info *info) {
    static const ad_op unknown = {.name = "?", .results = 1};
    const read_node *node = find_node(user, index);
    *info = node ? node->info : (ad_node_info){.index = index, .op = &unknown, .name = "", .scope = ""};
    return AD_OK;
}

static ad_status reader_scope(void *user, int64_t number, ad_scope_info *info) {
    *info = ((const cmd_reader *)user)->scope[number];
    return AD_OK;
}

static ad_status reader_totals(void *user, ad_totals *totals) {
    const cmd_reader *r = user;
    memcpy(totals, r->totals, (size_t)r->scopes * sizeof *totals);
    return AD_OK;
}

static bool reader_saved(void *user, int64_t index, int *cursor, ad_saved *saved) {
    const read_node *node = find_node(user, index);
    if (!node || *cursor >= node->saved_count) return false;
    *saved = node->saved[(*cursor)++];
    return true;
}

static int64_t reader_terms(void *user, int64_t index) {
    const read_node *node = find_node(user, index);
    return node ? node->all_terms : 0;
}

static bool reader_term(void *user, int64_t index, int64_t n, ad_contribution *term) {
    const read_node *node = find_node(user, index);
    if (!node || n >= node->term_count) return false;
    *term = node->term[n].term;
    return true;
}

/* The value of a term belongs to the node that gets it, which is an input of the consumer. */
static ad_status reader_term_value(void *user, int64_t consumer, int input, ad_tensor **out) {
    const read_node *from = find_node(user, consumer);
    *out = NULL;
    if (!from || input >= from->info.inputs) return AD_OK;
    const read_node *node = find_node(user, from->input[input]);
    for (int i = 0; node && i < node->term_count; i++)
        if (node->term[i].term.consumer == consumer && node->term[i].term.input == input)
            *out = ad_tensor_ref(node->term[i].value);
    return AD_OK;
}

static ad_status reader_jacobian(void *user, int64_t index, int input, ad_tensor **out) {
    const read_node *node = find_node(user, index);
    *out = NULL;
    for (int i = 0; node && i < node->jacobian_count; i++)
        if (node->jacobian[i].input == input) *out = ad_tensor_ref(node->jacobian[i].value);
    return AD_OK;
}

ad_dump_source source_of_reader(cmd_reader *r) {
    return (ad_dump_source){.user = r,
                            .size = r->size,
                            .scopes = r->scopes,
                            .status = r->status,
                            .error = string_member(r, r->json, "error"),
                            .pass = r->pass,
                            .node = reader_node,
                            .scope = reader_scope,
                            .totals = reader_totals,
                            .saved = reader_saved,
                            .terms = reader_terms,
                            .term = reader_term,
                            .term_value = reader_term_value,
                            .jacobian = reader_jacobian};
}

void fill_reader_options(const cmd_reader *r, ad_dump_options *options) {
    bool is_for_programs = options->format == AD_DUMP_JSON || options->format == AD_DUMP_HTML;
    const int64_t usual = is_for_programs ? r->shown : 60;
    bool is_elided = r->end - r->first > r->shown;
    options->first = r->first;
    options->end = r->end;
    if (options->precision == 0) options->precision = r->precision;
    /* What the file has left out in the middle stays out. */
    if (is_elided && options->most_nodes == 0) options->most_nodes = usual < r->shown ? usual : r->shown;
    if (is_elided && (options->most_nodes < 0 || options->most_nodes > r->shown)) options->most_nodes = r->shown;
}
