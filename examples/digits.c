/* digits: a small residual network learns to read handwritten digits (data/digits.txt).
 *
 *     image [64] -> first -> block 1 -> block 2 -> last -> ten scores, one for each digit
 *
 *     first, last   h W + b
 *     block         h + relu(h W + b): what h was goes on beside what the layer makes of it
 *
 * Every fifth image is held out: the network never learns from it and is tested on it. At least 97 % of those must be
 * read correctly, or this program fails. */
#include <adtape.h>

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef EXAMPLES_DATA /* the build says where the data are */
#define EXAMPLES_DATA "examples/data"
#endif

enum { PIXELS = 64, CLASSES = 10, WIDTH = 96, BLOCKS = 2, BATCH = 32, MOST_IMAGES = 10000 };
static const double claim = 0.97;

static struct {
    const char *data, *trace;
    long epochs, seed;
    bool quiet;
} options = {.data = EXAMPLES_DATA "/digits.txt", .trace = "digits-trace", .epochs = 30, .seed = 1};

/* Says what is wrong and ends the program. */
AD_PRINTF(1, 2) static _Noreturn void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("digits: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static ad_error error;
static void check(ad_status status) {
    if (status != AD_OK) fail("%s", error.message);
}
static void check_tape(ad_tape *t) {
    if (ad_tape_status(t) != AD_OK) fail("%s", ad_tape_error(t));
}

/* ---- the data ---------------------------------------------------------------------------------------------------- */

typedef struct images {
    int count;
    float pixel[MOST_IMAGES][PIXELS]; /* from 0 to 1 */
    int32_t digit[MOST_IMAGES];
} images;
static images learn, test;

/* The next line that is not empty or a comment, without its end; NULL at the end of the file. */
static const char *next_line(FILE *file, int *number) {
    static char line[200];
    while (fgets(line, sizeof line, file)) {
        (*number)++;
        size_t length = strcspn(line, "\r\n");
        if (!line[length] && !feof(file)) fail("%s:%d: this line is too long", options.data, *number);
        line[length] = '\0';
        if (length > 0 && line[0] != '#') return line;
    }
    if (ferror(file)) fail("%s: %s", options.data, strerror(errno));
    return NULL;
}

static void read_image(FILE *file, int *number, const char *line, float *pixel, int32_t *digit) {
    static const char levels[] = ".123456789abcdefg";
    if (strlen(line) != 1 || line[0] < '0' || line[0] > '9')
        fail("%s:%d: here should be a digit, not \"%s\"", options.data, *number, line);
    *digit = line[0] - '0';
    for (int row = 0; row < 8; row++) {
        line = next_line(file, number);
        if (!line) fail("%s ends in the middle of an image", options.data);
        if (strlen(line) != 8 || strspn(line, levels) != 8)
            fail("%s:%d: row %d of an image should be eight of %s, not \"%s\"", options.data, *number, row + 1,
                 levels, line);
        for (int column = 0; column < 8; column++) *pixel++ = (float)(strchr(levels, line[column]) - levels) / 16.0f;
    }
}

static void read_data(void) {
    FILE *file = fopen(options.data, "r");
    if (!file) fail("%s: %s (--data FILE says where it is)", options.data, strerror(errno));
    int number = 0, count, end;
    const char *line = next_line(file, &number);
    if (!line || sscanf(line, "images %5d%n", &count, &end) != 1 || line[end])
        fail("%s:%d: the file should begin with \"images N\"", options.data, number);
    if (count < 5 || count > MOST_IMAGES)
        fail("%s:%d: %d images: from 5 to %d are possible", options.data, number, count, MOST_IMAGES);
    for (int i = 0; i < count; i++) {
        if (!(line = next_line(file, &number))) fail("%s ends after %d of %d images", options.data, i, count);
        images *set = i % 5 == 4 ? &test : &learn;
        read_image(file, &number, line, set->pixel[set->count], &set->digit[set->count]);
        set->count++;
    }
    if (next_line(file, &number)) fail("%s:%d: more than %d images", options.data, number, count);
    fclose(file);
}

/* ---- the network ------------------------------------------------------------------------------------------------- */

enum { LAYERS = BLOCKS + 2 };
static const char *const layer_name[LAYERS] = {"first", "block1", "block2", "last"};
static ad_param *params[2 * LAYERS]; /* W and b of each layer */

static void make_network(ad_rng *rng) {
    for (int i = 0; i < LAYERS; i++) {
        int in = i == 0 ? PIXELS : WIDTH, out = i == LAYERS - 1 ? CLASSES : WIDTH;
        char name[32];
        snprintf(name, sizeof name, "%s.W", layer_name[i]);
        check(ad_param_new(&params[2 * i], NULL, name, AD_F32, AD_SHAPE(in, out), NULL, &error));
        float *w = ad_param_edit(params[2 * i])->data;
        for (int k = 0; k < in * out; k++)
            w[k] = (float)(ad_rng_normal(rng) * sqrt(1.0 / in)); /* keeps the variance */
        snprintf(name, sizeof name, "%s.b", layer_name[i]);
        check(ad_param_new(&params[2 * i + 1], NULL, name, AD_F32, AD_SHAPE(out), NULL, &error));
    }
}

static ad_var layer(ad_tape *t, int i, ad_var h) {
    ad_var W = ad_use(t, params[2 * i]), b = ad_use(t, params[2 * i + 1]);
    return ad_add(ad_matmul(h, W), b);
}

static ad_var network(ad_tape *t, int n, const float *pixel) {
    ad_var h = ad_constant(t, "image", AD_F32, AD_SHAPE(n, PIXELS), pixel);
    for (int i = 0; i < LAYERS; i++) {
        ad_scope_begin(t, "%s", layer_name[i]);
        bool is_block = i > 0 && i < LAYERS - 1;
        h = is_block ? ad_add(h, ad_relu(layer(t, i, h))) : layer(t, i, h);
        ad_scope_end(t);
    }
    return ad_name(h, "scores");
}

/* The mean cross-entropy between softmax(scores) and the digits. */
static ad_var loss_of(ad_tape *t, int n, ad_var scores, const int32_t *digit) {
    ad_var right = ad_constant(t, "digit", AD_I32, AD_SHAPE(n), digit);
    return ad_name(ad_mean(ad_softmax_xent(scores, right), AD_ALL_AXES, false), "loss");
}

/* ---- learning ---------------------------------------------------------------------------------------------------- */

/* Half of the images are moved by a pixel, so that the network does not learn places by heart. */
static void copy_moved(const float *from, float *to, ad_rng *rng) {
    bool moves = ad_rng_below(rng, 2);
    int64_t dx = moves ? ad_rng_below(rng, 3) - 1 : 0, dy = moves ? ad_rng_below(rng, 3) - 1 : 0;
    for (int64_t y = dy; y < 8 + dy; y++)
        for (int64_t x = dx; x < 8 + dx; x++) *to++ = x < 0 || x > 7 || y < 0 || y > 7 ? 0 : from[8 * y + x];
}

static void shuffle(int *order, int n, ad_rng *rng) { /* Fisher and Yates */
    for (int i = 0; i < n; i++) {
        int j = (int)ad_rng_below(rng, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
}

/* One pass over all images in a random order, a batch at a time. Returns the mean loss. */
static double learn_once(ad_tape *t, ad_optim *optim, ad_rng *rng) {
    static int order[MOST_IMAGES];
    static float pixel[BATCH][PIXELS];
    int32_t digit[BATCH];
    double sum = 0;
    shuffle(order, learn.count, rng);
    for (int first = 0; first < learn.count; first += BATCH) {
        int n = learn.count - first < BATCH ? learn.count - first : BATCH;
        for (int i = 0; i < n; i++) {
            copy_moved(learn.pixel[order[first + i]], pixel[i], rng);
            digit[i] = learn.digit[order[first + i]];
        }
        ad_var loss = loss_of(t, n, network(t, n, pixel[0]), digit);
        ad_backward(loss);
        sum += ad_item(loss) * n;
        check_tape(t);
        check(ad_optim_step(optim, &error));
        ad_tape_reset(t);
    }
    return sum / learn.count;
}

/* Reads the held-out images. table[digit][guess] counts them, unless NULL. Returns how many were read correctly. */
static int try_test(ad_tape *t, int table[CLASSES][CLASSES]) {
    ad_view scores = ad_value(network(t, test.count, test.pixel[0]));
    check_tape(t);
    int right = 0;
    for (int i = 0; i < test.count; i++) {
        const float *score = (const float *)scores.data + i * CLASSES;
        int guess = 0;
        for (int c = 1; c < CLASSES; c++)
            if (score[c] > score[guess]) guess = c;
        right += guess == test.digit[i];
        if (table) table[test.digit[i]][guess]++;
    }
    ad_tape_reset(t);
    return right;
}

/* ---- what is shown ----------------------------------------------------------------------------------------------- */

static double percent(int right) { return 100.0 * right / test.count; }

/* A bar that is drawn over itself on a terminal; elsewhere a line for every fifth of the way. */
static void show_progress(int epoch, double loss, int right) {
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    bool is_terminal = isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
    bool color = is_terminal && !(no_color && *no_color);
    int steps = (int)options.epochs, width = 30, filled = width * epoch / steps;
    if (is_terminal) {
        printf("\r%s", color ? "\033[32m" : "");
        for (int i = 0; i < width; i++) fputs(i < filled ? "#" : "-", stdout);
        printf("%s", color ? "\033[0m" : "");
    } else if (epoch * 5 / steps == (epoch - 1) * 5 / steps) {
        return;
    }
    printf(" epoch %3d of %d, loss %.4f, test accuracy %5.1f %%", epoch, steps, loss, percent(right));
    if (!is_terminal || epoch == steps) printf("\n");
    fflush(stdout);
}

static void show_confusion(int table[CLASSES][CLASSES]) {
    printf("\nhow the held-out digits were read (. is none)\n\n  digit     read as\n       ");
    for (int c = 0; c < CLASSES; c++) printf("%4d", c);
    printf("\n");
    for (int d = 0; d < CLASSES; d++) {
        printf("%5d  ", d);
        for (int c = 0; c < CLASSES; c++) {
            if (table[d][c]) {
                printf("%4d", table[d][c]);
            } else {
                printf("   .");
            }
        }
        printf("\n");
    }
    printf("\n");
}

static void dump(ad_tape *t, ad_dump_format format, const char *name) {
    FILE *file = fopen(name, "w");
    if (!file || ad_tape_dump(t, format, file) != AD_OK || fclose(file) != 0) fail("%s: %s", name, strerror(errno));
}

/* Writes down all that happens to the first held-out image, there and back. */
static void write_trace(ad_tape *t) {
    char text[PATH_MAX], dot[PATH_MAX];
    snprintf(text, sizeof text, "%s.txt", options.trace);
    snprintf(dot, sizeof dot, "%s.dot", options.trace);
    ad_backward(loss_of(t, 1, network(t, 1, test.pixel[0]), test.digit));
    check_tape(t);
    dump(t, AD_DUMP_TEXT, text);
    dump(t, AD_DUMP_DOT, dot);
    ad_tape_reset(t);
    printf("trace of one image: %s, and for Graphviz: %s\n", text, dot);
}

/* ---- the program ------------------------------------------------------------------------------------------------- */

static const char usage[] = "usage: digits [OPTION]...\n"
                            "  --epochs N     passes over the images to learn from, 1 to 1000 (30)\n"
                            "  --seed N       of the first weights and the order of the images (1)\n"
                            "  --data FILE    the images (" EXAMPLES_DATA "/digits.txt)\n"
                            "  --trace NAME   where the trace goes: NAME.txt and NAME.dot (digits-trace)\n"
                            "  --quiet        only the last lines\n"
                            "  --help         this text\n";

static long number(const char *option, const char *text, long low, long high) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < low || value > high)
        fail("--%s: \"%s\" is not a number from %ld to %ld", option, text, low, high);
    return value;
}

static void read_options(int argc, char **argv) {
    static const struct option known[] = {{"epochs", required_argument, NULL, 'e'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"data", required_argument, NULL, 'd'},
                                          {"trace", required_argument, NULL, 't'},
                                          {"quiet", no_argument, NULL, 'q'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'e': options.epochs = number("epochs", optarg, 1, 1000); break;
        case 's': options.seed = number("seed", optarg, 0, INT32_MAX); break;
        case 'd': options.data = optarg; break;
        case 't': options.trace = optarg; break;
        case 'q': options.quiet = true; break;
        case 'h': fputs(usage, stdout); exit(0);
        default: fputs(usage, stderr); exit(2);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "digits: what is \"%s\"?\n%s", argv[optind], usage);
        exit(2);
    }
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    read_data();
    ad_rng rng = {.seed = (uint64_t)options.seed};
    make_network(&rng);
    ad_optim *optim;
    ad_adam_options adamw = ad_adamw_defaults();
    adamw.rate = 0.003;
    check(ad_adamw_new(&optim, NULL, 2 * LAYERS, params, &adamw, &error));
    ad_tape *t = ad_tape_new(NULL);
    if (!options.quiet)
        printf("%d images to learn from, %d held out for the test; seed %ld\n", learn.count, test.count,
               options.seed);

    for (int epoch = 1; epoch <= options.epochs; epoch++) {
        double done = (double)(epoch - 1) / (double)options.epochs;
        check(ad_optim_set_rate(optim, adamw.rate * (1 - done), &error)); /* smaller steps towards the end */
        double loss = learn_once(t, optim, &rng);
        if (!options.quiet) show_progress(epoch, loss, try_test(t, NULL));
    }

    int table[CLASSES][CLASSES] = {{0}}, right = try_test(t, table);
    if (!options.quiet) show_confusion(table);
    printf("test accuracy %.1f %% (%d of %d), seed %ld\n", percent(right), right, test.count, options.seed);
    write_trace(t);

    ad_tape_free(t);
    ad_optim_free(optim);
    for (int i = 0; i < 2 * LAYERS; i++) ad_param_unref(params[i]);
    if (right < claim * test.count) fail("that is less than the %.0f %% that this example claims", 100 * claim);
    return 0;
}
