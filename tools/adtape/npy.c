/* Arrays from .npy files (NumPy's format, versions 1 to 3): floats and integers of 4 or 8 bytes, either byte order, C or
 * Fortran order. A file may hold anything: nothing that it says is believed before it was checked. */
#include "tools/adtape/command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { most_header = 65536 };

typedef struct header {
    const char *path;
    ad_dtype dtype;
    bool is_swapped, is_fortran;
    ad_shape shape;
    int64_t count;
    cmd_fault *fault;
} header;

static bool fail(const char *path, cmd_fault *fault, const char *what) {
    return set_fault(fault, STATUS_SYSTEM, "%s: %s", path, what);
}

/* ---- the header's text: a dictionary of Python ----------------------------------------------------------------------- */

/* Behind the key and its colon; NULL if it is not there. */
static const char *find_key(const char *text, const char *key) {
    char quoted[32];
    for (int i = 0; i < 2; i++) {
        snprintf(quoted, sizeof quoted, i ? "\"%s\"" : "'%s'", key);
        const char *found = strstr(text, quoted);
        if (!found) continue;
        found += strlen(quoted);
        found += strspn(found, " ");
        if (*found != ':') continue;
        return found + 1 + strspn(found + 1, " ");
    }
    return NULL;
}

static bool read_type(header *h, const char *text) {
    static const struct {
        char code[3];
        ad_dtype dtype;
    } kinds[] = {{"f4", AD_F32}, {"f8", AD_F64}, {"i4", AD_I32}, {"i8", AD_I64}};
    const char *at = find_key(text, "descr");
    if (!at || (*at != '\'' && *at != '"')) return fail(h->path, h->fault, "not an array of numbers of one type");
    at++;
    const uint16_t one = 1;
    bool is_little = *(const unsigned char *)&one == 1;
    h->is_swapped = *at == (is_little ? '>' : '<');
    if (*at && strchr("<>=|", *at)) at++;
    size_t length = strcspn(at, "'\"");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (length != 2 || memcmp(at, kinds[i].code, 2) != 0) continue;
        h->dtype = kinds[i].dtype;
        return true;
    }
    return set_fault(h->fault, STATUS_SYSTEM,
                     "%s: its type is %.*s, but f4, f8, i4 and i8 can be read; in NumPy: x.astype('f8')", h->path,
                     (int)(length < 20 ? length : 20), at);
}

static bool read_order(header *h, const char *text) {
    const char *at = find_key(text, "fortran_order");
    if (!at || (strncmp(at, "True", 4) != 0 && strncmp(at, "False", 5) != 0))
        return fail(h->path, h->fault, "its header does not say in which order it is");
    h->is_fortran = *at == 'T';
    return true;
}

static bool read_shape(header *h, const char *text) {
    const char *at = find_key(text, "shape");
    if (!at || *at++ != '(') return fail(h->path, h->fault, "its header has no shape");
    h->shape = (ad_shape){.rank = 0};
    for (;;) {
        at += strspn(at, " ,");
        if (*at == ')') break;
        char *end;
        errno = 0;
        long long dim = strtoll(at, &end, 10);
        if (end == at || errno || dim < 0) return fail(h->path, h->fault, "its header has no shape that makes sense");
        if (h->shape.rank == AD_MAX_RANK)
            return set_fault(h->fault, STATUS_SYSTEM, "%s: it has more than %d axes", h->path, AD_MAX_RANK);
        h->shape.dim[h->shape.rank++] = dim;
        at = end;
    }
    h->count = ad_shape_count(&h->shape);
    char type[AD_TYPE_TEXT];
    if (h->count >= 0) return true;
    return set_fault(h->fault, STATUS_SYSTEM, "%s: its shape %s does not fit into memory", h->path,
                     ad_type_text(h->dtype, &h->shape, type));
}

/* ---- the file -------------------------------------------------------------------------------------------------------- */

static bool read_header(FILE *file, header *h) {
    unsigned char start[12];
    if (fread(start, 1, 10, file) != 10 || memcmp(start, "\x93NUMPY", 6) != 0)
        return fail(h->path, h->fault, ferror(file) ? strerror(errno) : "not a .npy file");
    if (start[6] < 1 || start[6] > 3)
        return set_fault(h->fault, STATUS_SYSTEM, "%s: version %d of the format, but 1 to 3 are known", h->path,
                         start[6]);
    uint32_t length = start[8] | (uint32_t)start[9] << 8;
    if (start[6] > 1) {
        if (fread(start + 10, 1, 2, file) != 2) return fail(h->path, h->fault, "it ends within its header");
        length |= (uint32_t)start[10] << 16 | (uint32_t)start[11] << 24;
    }
    if (length > most_header) return fail(h->path, h->fault, "its header is too long to be one of a plain array");
    char *text = allocate((size_t)length + 1);
    bool good = fread(text, 1, length, file) == length;
    if (!good) fail(h->path, h->fault, "it ends within its header");
    good = good && read_type(h, text) && read_order(h, text) && read_shape(h, text);
    free(text);
    return good;
}

static void swap_bytes(unsigned char *data, int64_t count, size_t size) {
    for (int64_t i = 0; i < count; i++, data += size)
        for (size_t k = 0; k < size / 2; k++) {
            unsigned char byte = data[k];
            data[k] = data[size - 1 - k];
            data[size - 1 - k] = byte;
        }
}

/* The elements as they lie in the file, NULL and a fault if they are not all there. Memory grows with what was really
 * read: a shape is easily written. */
static void *read_elements(FILE *file, header *h) {
    size_t wanted = (size_t)h->count * ad_dtype_size(h->dtype), have = 0, room = 0;
    unsigned char *data = allocate(1);
    while (have < wanted) {
        size_t next = have ? 2 * have : 1 << 20;
        room = next < wanted ? next : wanted;
        unsigned char *more = realloc(data, room);
        size_t got = more ? fread(more + have, 1, room - have, file) : 0;
        if (more) data = more;
        have += got;
        if (got > 0) continue;
        char type[AD_TYPE_TEXT];
        ad_type_text(h->dtype, &h->shape, type);
        if (!more) {
            set_fault(h->fault, STATUS_SYSTEM, "%s: out of memory for %s", h->path, type);
        } else {
            set_fault(h->fault, STATUS_SYSTEM, "%s: it is cut off: %s has %zu bytes, but %zu are there", h->path,
                      type, wanted, have);
        }
        free(data);
        return NULL;
    }
    return data;
}

/* In Fortran's order the first index runs fastest. */
static void use_fortran_strides(ad_view *view) {
    int64_t stride = 1;
    for (int i = 0; i < view->shape.rank; i++) {
        view->stride[i] = stride;
        stride *= view->shape.dim[i];
    }
}

/* Floats become f64: the program's dtype is another matter. */
static bool to_tensor(const header *h, void *data, ad_tensor **out) {
    ad_error error;
    ad_view view = ad_view_of(data, h->dtype, h->shape);
    if (h->is_fortran) use_fortran_strides(&view);
    if (ad_tensor_new(out, NULL, h->dtype == AD_F32 ? AD_F64 : h->dtype, h->shape, NULL, &error))
        return fail(h->path, h->fault, error.message);
    (void)!ad_view_copy(&view, ad_tensor_view(*out));
    return true;
}

bool read_npy(const char *path, ad_tensor **out, cmd_fault *fault) {
    FILE *file = fopen(path, "rb");
    if (!file) return fail(path, fault, strerror(errno));
    header h = {.path = path, .fault = fault};
    void *data = read_header(file, &h) ? read_elements(file, &h) : NULL;
    fclose(file);
    if (!data) return false;
    if (h.is_swapped) swap_bytes(data, h.count, ad_dtype_size(h.dtype));
    bool good = to_tensor(&h, data, out);
    free(data);
    return good;
}
