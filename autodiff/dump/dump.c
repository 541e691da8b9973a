/* ad_tape_dump: options, what is shown, and where it goes. */
#include "autodiff/dump/dump.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { UNLIMITED = -1 };
static const struct {
    void (*render)(ad_dump *dump);
    int64_t most_nodes, most_elements; /* unless asked otherwise */
    int64_t most_terms;                /* of a merge */
} formats[AD_DUMP_FORMAT_COUNT] = {
    [AD_DUMP_TEXT] = {ad_dump_text, 60, 12, AD_MOST_TERMS},
    [AD_DUMP_DOT] = {ad_dump_dot, 60, 12, AD_MOST_TERMS},
    [AD_DUMP_MARKDOWN] = {ad_dump_markdown, 60, 12, AD_MOST_TERMS},
    [AD_DUMP_LATEX] = {ad_dump_latex, 60, 12, AD_MOST_TERMS},
    [AD_DUMP_JSON] = {ad_dump_json, UNLIMITED, INT64_MAX, 64},
    [AD_DUMP_HTML] = {ad_dump_html, 5000, 1024, 64},
};

void ad_dump_fail(ad_dump *dump, ad_status status) {
    if (!dump->status) dump->status = status;
}

/* ---- what is shown --------------------------------------------------------------------------------------------- */

static void choose_windows(ad_dump *dump) {
    const ad_dump_options *options = &dump->options;
    int64_t count = options->end - options->first, most = options->most_nodes;
    dump->windows = 1;
    dump->window[0] = (ad_window){.first = options->first, .end = options->end};
    if (most < 0 || count <= most) return;
    dump->elided = count - most;
    dump->windows = 2;
    dump->window[1] = (ad_window){.first = options->end - most / 2, .end = options->end};
    dump->window[0].end = dump->window[1].first - dump->elided;
}

bool ad_dump_shows(const ad_dump *dump, int64_t index) {
    for (int w = 0; w < dump->windows; w++)
        if (index >= dump->window[w].first && index < dump->window[w].end) return true;
    return false;
}

static void mention(ad_dump *dump, int64_t index) {
    ad_node_info node = ad_dump_node(dump, index);
    if (dump->status || (!*node.name && ad_dump_shows(dump, index))) return;
    if (dump->name_count == dump->name_room) {
        size_t room = dump->name_room ? dump->name_room * 2 : 64;
        ad_name_use *names = ad_allocate(dump->allocator, room * sizeof *names, _Alignof(ad_name_use));
        if (!names) {
            ad_dump_fail(dump, AD_ERR_OOM);
            return;
        }
        if (dump->name_count) memcpy(names, dump->names, dump->name_count * sizeof *names);
        ad_release(dump->allocator, dump->names, dump->name_room * sizeof *names);
        dump->names = names;
        dump->name_room = room;
    }
    dump->names[dump->name_count++] = (ad_name_use){.name = node.name, .index = index};
}

/* Formulas of an operation name its inputs and all of its results. */
static void mention_operation(ad_dump *dump, int64_t first) {
    ad_node_info node = ad_dump_node(dump, first);
    for (int i = 0; i < node.inputs; i++) mention(dump, node.input[i]);
    for (int k = 1; k < node.op->results; k++) mention(dump, first + k);
}

static void mention_with_neighbours(ad_dump *dump, int64_t index) {
    ad_node_info node = ad_dump_node(dump, index);
    ad_contribution term;
    mention(dump, index);
    mention_operation(dump, node.result ? node.input[0] : index);
    if (node.result) mention(dump, node.input[0]);
    for (int64_t n = 0; ad_dump_term(dump, index, n, &term); n++) {
        mention(dump, term.consumer);
        mention_operation(dump, term.consumer);
    }
}

/* Looks at everything that will be shown once, to find out what needs more than its name. */
static void prepare(ad_dump *dump) {
    const ad_dump_source *source = &dump->source;
    choose_windows(dump);
    size_t bytes = (size_t)source->scopes * sizeof *dump->totals;
    dump->totals = ad_allocate(dump->allocator, bytes, _Alignof(ad_totals));
    if (!dump->totals) {
        ad_dump_fail(dump, AD_ERR_OOM);
        return;
    }
    ad_dump_fail(dump, source->totals(source->user, dump->totals));
    for (int w = 0; source->look && w < dump->windows; w++)
        ad_dump_fail(dump,
                     source->look(source->user, w, dump->window[w].first, dump->window[w].end, dump->most_terms));
    if (source->pass.nodes > 0 && source->pass.start >= 0) mention(dump, source->pass.start);
    for (int w = 0; w < dump->windows; w++)
        for (int64_t i = dump->window[w].first; i < dump->window[w].end; i++) mention_with_neighbours(dump, i);
    ad_dump_sort_names(dump);
}

/* ---- options --------------------------------------------------------------------------------------------------- */

static ad_status fill_options(ad_dump_options *options, int64_t size) {
    if ((unsigned)options->format >= AD_DUMP_FORMAT_COUNT || (unsigned)options->colour > AD_COLOUR_NEVER ||
        options->precision < 0 || options->precision > 17 || options->most_elements < 0)
        return AD_ERR_VALUE;
    if (options->end == 0 || options->end > size) options->end = size;
    if (options->first < 0 || options->first > options->end) return AD_ERR_INDEX;
    if (options->most_nodes == 0) options->most_nodes = formats[options->format].most_nodes;
    if (options->most_elements == 0) options->most_elements = formats[options->format].most_elements;
    if (options->precision == 0) options->precision = 4;
    return AD_OK;
}

/* The nodes of one scope and of those inside it are a run: narrows the range to it. */
static ad_status choose_scope(ad_dump *dump) {
    ad_dump_options *options = &dump->options;
    int64_t wanted = 0, first = options->end, end = options->first;
    while (wanted < dump->source.scopes && strcmp(ad_dump_scope(dump, wanted).path, options->scope) != 0) wanted++;
    if (wanted == dump->source.scopes) return AD_ERR_VALUE;
    for (int64_t i = options->first; i < options->end; i++) {
        int64_t scope = ad_dump_node(dump, i).scope_number;
        while (scope > wanted) scope = ad_dump_scope(dump, scope).parent;
        if (scope != wanted) continue;
        if (first > i) first = i;
        end = i + 1;
    }
    options->first = first < end ? first : end;
    options->end = end;
    return AD_OK;
}

/* no-color.org: set and not empty. */
static bool terminal_takes_colour(int file) {
    const char *no_colour = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return isatty(file) && !(no_colour && *no_colour) && !(terminal && strcmp(terminal, "dumb") == 0);
}

static int terminal_width(int file) {
    struct winsize size;
    return isatty(file) && ioctl(file, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : -1;
}

/* ---- entry points ---------------------------------------------------------------------------------------------- */

ad_status ad_dump_open(ad_dump *dump, const ad_dump_source *source, const ad_dump_options *options) {
    *dump = (ad_dump){.source = *source};
    dump->allocator = source->allocator ? source->allocator : ad_allocator_default();
    if (options) dump->options = *options;
    ad_status status = fill_options(&dump->options, source->size);
    if (!status && dump->options.scope) status = choose_scope(dump);
    if (status) return status;
    dump->most_terms = formats[dump->options.format].most_terms;
    dump->writer.colour = dump->options.colour == AD_COLOUR_ALWAYS;
    prepare(dump);
    return AD_OK;
}

ad_status ad_dump_close(ad_dump *dump) {
    ad_writer_flush(&dump->writer);
    if (dump->writer.failed) ad_dump_fail(dump, AD_ERR_IO);
    ad_release(dump->allocator, dump->totals, (size_t)dump->source.scopes * sizeof *dump->totals);
    ad_release(dump->allocator, dump->names, dump->name_room * sizeof *dump->names);
    return dump->status;
}

ad_status ad_dump_source_to(const ad_dump_source *source, const ad_dump_options *options, ad_write *write,
                            void *user) {
    if (!source || !write) return AD_ERR_NULL;
    ad_dump dump;
    ad_status status = ad_dump_open(&dump, source, options);
    if (status) return status;
    dump.writer.write = write;
    dump.writer.user = user;
    if (!dump.status) formats[dump.options.format].render(&dump);
    return ad_dump_close(&dump);
}

ad_status ad_tape_dump_to(ad_tape *tape, const ad_dump_options *options, ad_write *write, void *user) {
    if (!tape || !write) return AD_ERR_NULL;
    ad_tape_source opened;
    ad_dump_source source = ad_tape_source_open(&opened, tape);
    ad_status status = ad_dump_source_to(&source, options, write, user);
    ad_tape_source_close(&opened);
    return status;
}

bool ad_write_to_stream(void *stream, const char *text, size_t size) { return fwrite(text, 1, size, stream) == size; }

void ad_dump_options_of_stream(ad_dump_options *options, FILE *stream) {
    int file = fileno(stream);
    if (options->colour == AD_COLOUR_AUTO && terminal_takes_colour(file)) options->colour = AD_COLOUR_ALWAYS;
    if (options->width == 0) options->width = terminal_width(file);
}

ad_status ad_dump_source_with(const ad_dump_source *source, const ad_dump_options *options, FILE *stream) {
    if (!source || !stream) return AD_ERR_NULL;
    ad_dump_options own = {.format = AD_DUMP_TEXT};
    if (options) own = *options;
    ad_dump_options_of_stream(&own, stream);
    ad_status status = ad_dump_source_to(source, &own, ad_write_to_stream, stream);
    if (fflush(stream) && !status) status = AD_ERR_IO;
    return status;
}

ad_status ad_tape_dump_with(ad_tape *tape, const ad_dump_options *options, FILE *stream) {
    if (!tape || !stream) return AD_ERR_NULL;
    ad_tape_source opened;
    ad_dump_source source = ad_tape_source_open(&opened, tape);
    ad_status status = ad_dump_source_with(&source, options, stream);
    ad_tape_source_close(&opened);
    return status;
}

ad_status ad_tape_dump(ad_tape *tape, ad_dump_format format, FILE *stream) {
    ad_dump_options options = {.format = format};
    return ad_tape_dump_with(tape, &options, stream);
}
