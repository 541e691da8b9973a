/* Inside the `adtape` command.
 *
 *   source    a text that the user wrote: the expression, or an argument
 *   fault     what is wrong with it, and at which character
 *   function  what can be called by name: an op of the registry, or a composition of ops
 *   step      one operation of a program: a literal, a use of a variable, a call
 *   slot      a variable: an input, or what was assigned
 *   program   all of them, in the order in which they run; values are those of the last run
 *
 * Expressions become a list of steps when they are read, so that running them is a loop. Memory: the command ends if
 * there is none. */
#ifndef ADTAPE_COMMAND_H
#define ADTAPE_COMMAND_H

#include "tools/adtape/formula.h"

#include <stdio.h>

/* What scripts may rely on. */
enum {
    STATUS_OK = 0,
    STATUS_WRONG = 1, /* an expression or a value is wrong, or a check failed */
    STATUS_USAGE = 2,
    STATUS_SYSTEM = 3 /* a file, another program, or memory */
};

/* ---- memory and texts (text.c) ----------------------------------------------------------------------------------- */

void *allocate(size_t size); /* zeroed */
/* An array with room for one more element than `count`, perhaps moved. */
void *with_room(void *array, size_t count, size_t *room, size_t element);
char *format_text(const char *format, ...) AD_PRINTF(1, 2); /* to be freed */

typedef struct cmd_source {
    const char *name; /* "expr", "x" */
    const char *text;
    size_t start, length; /* what belongs to it is text[start..length) */
    bool has_lines;       /* several */
} cmd_source;
cmd_source source_of(const char *name, const char *text);

/* Line and column of a character, counted from 0. Moving to one nearby is cheap. */
typedef struct cmd_place {
    size_t at, line, column;
} cmd_place;
void move_place(const cmd_source *source, cmd_place *place, size_t at);
char *place_text(const cmd_source *source, const cmd_place *place); /* "expr:12", or "expr:2:12"; to be freed */
char *place_in(const cmd_source *source, size_t at);

typedef struct cmd_fault {
    int status;               /* 0: there is none */
    const cmd_source *source; /* NULL: not about a text */
    size_t at;
    char message[1200];
} cmd_fault;
/* Both return false. */
bool set_fault(cmd_fault *fault, int status, const char *format, ...) AD_PRINTF(3, 4);
bool set_fault_at(cmd_fault *fault, const cmd_source *source, size_t at, const char *format, ...) AD_PRINTF(4, 5);
/* Says on stderr what is wrong, and shows the place. Returns the status. */
int tell_fault(const cmd_fault *fault);

/* The name that is most like the one that does not exist; NULL if none is. */
typedef const char *name_at(const void *names, int i); /* NULL past the end */
const char *most_similar(const char *name, size_t length, name_at *at, const void *names);

/* ---- functions by name (functions.c, compositions.c) ------------------------------------------------------------- */

/* A composition has no descriptor in the registry; this one says how it is called. */
typedef struct cmd_composition {
    ad_op op;          /* name, inputs, results, attributes and formula only */
    unsigned integers; /* bit i: input i is an index */
    ad_var (*apply)(const char *where, int n, const ad_var *in, const void *attrs);
} cmd_composition;
extern const cmd_composition compositions[];
extern const int composition_count;

typedef struct cmd_function {
    const ad_op *op;
    const cmd_composition *composition; /* NULL: the op itself */
} cmd_function;
bool find_function(const char *name, size_t length, cmd_function *found);
const char *function_name_at(const void *unused, int i);
/* Whether input i is one of indices: then a literal there is i64. */
bool takes_index(const cmd_function *f, int i);
/* "softmax(x, axis=-1)" */
char *signature_text(const ad_op *op); /* to be freed */
ad_var apply_function(const cmd_function *f, const char *where, ad_tape *tape, int n, const ad_var *in,
                      const void *attrs, ad_var results[AD_MAX_RESULTS]);

/* ---- programs (parse.c, steps.c, run.c) --------------------------------------------------------------------------- */

typedef struct cmd_literal {
    ad_shape shape; /* rank 0: a number */
    double *value;
} cmd_literal;

typedef enum step_kind {
    STEP_LITERAL,
    STEP_USE,
    STEP_CALL,
    STEP_ASSIGN,
    STEP_NOTHING /* a literal that became an attribute */
} step_kind;
typedef struct cmd_step {
    step_kind kind;
    const cmd_source *source;
    size_t at;
    char *where;
    cmd_literal literal;   /* LITERAL */
    bool is_index;         /* LITERAL: i64 */
    int slot;              /* USE, ASSIGN: the first one */
    cmd_function function; /* CALL */
    void *attrs;
    int inputs, first_argument; /* in the program's arguments; of ASSIGN: what is assigned */
    int targets;                /* ASSIGN: how many slots, one for each result */
    ad_var result[AD_MAX_RESULTS];
} cmd_step;

typedef struct cmd_slot {
    char *name;
    ad_tensor *value; /* of an input: f64, or integers from a file; else NULL */
    bool is_index;    /* of an input: it is only used where indices are wanted */
    int literal;      /* the step of the literal that was assigned, or -1 */
    ad_var var;
} cmd_slot;

typedef struct cmd_program {
    cmd_step *step;
    int *argument; /* of calls: the steps that make the inputs */
    cmd_slot *slot;
    size_t steps, arguments, slots, step_room, argument_room, slot_room;
    ad_dtype dtype; /* of what has no other */
} cmd_program;

/* Another input; takes over the reference to its value. */
void add_input(cmd_program *program, const char *name, size_t length, ad_tensor *value);
/* Appends what the text says. On a fault the program stays as it was. */
bool parse(cmd_program *program, const cmd_source *source, cmd_fault *fault);
/* Says of inputs and literals which are indices; parse does. */
void find_indices(cmd_program *program);
/* A literal: a number, or an array of them. */
bool parse_literal(const cmd_source *source, cmd_literal *out, cmd_fault *fault);
/* Forgets the steps and slots from these on. */
void truncate_program(cmd_program *program, size_t steps, size_t slots);
void free_program(cmd_program *program);
int find_slot(const cmd_program *program, const char *name, size_t length); /* -1: there is none */
/* The step that is the value of the program, -1 if it has none; and how it is called: "f", unless it was assigned. */
int result_step(const cmd_program *program);
const char *result_name(const cmd_program *program);

/* Puts the inputs on the tape, unless `in` has them, and everything after them. */
bool run(cmd_program *program, ad_tape *tape, const ad_var *in, cmd_fault *fault);
/* The tape's error, at the step that made it; `step` is -1 if that is not known. */
bool set_tape_fault(cmd_fault *fault, const cmd_program *program, int step, const ad_tape *tape);
ad_var result_of(const cmd_program *program);

/* ---- inputs (input.c, npy.c) -------------------------------------------------------------------------------------- */

/* NAME=VALUE, or NAME=@FILE.npy */
bool add_input_argument(cmd_program *program, const cmd_source *argument, cmd_fault *fault);
/* The same apart: the name is a part of the text. */
typedef struct cmd_input {
    const char *name;
    size_t length;
    ad_tensor *value;
} cmd_input;
bool read_input(const cmd_source *argument, cmd_input *input, cmd_fault *fault);
bool read_npy(const char *path, ad_tensor **out, cmd_fault *fault);

/* ---- output (output.c) --------------------------------------------------------------------------------------------- */

/* The shortest decimals that read back as the same number; or so many significant digits. */
void put_number(FILE *out, double value, ad_dtype dtype, int precision);
/* Nested brackets; rows are parted by a comma and `between`. Numbers are as exact as the dtype says. */
void put_array(FILE *out, const ad_view *view, ad_dtype dtype, int precision, const char *between, bool json);
/* Standard output, or the file of that name; NULL and a fault. */
FILE *open_output(const char *path, cmd_fault *fault);
bool close_output(FILE *out, const char *path, cmd_fault *fault);

/* ---- what the commands share (options.c) ---------------------------------------------------------------------------- */

/* A program that was given as arguments, with its texts, and a tape. */
typedef struct cmd_workspace {
    cmd_program program;
    cmd_source *source; /* one for each argument */
    cmd_source seed;
    char *input; /* the expression, if it was read from standard input */
    ad_tape *tape;
} cmd_workspace;
/* EXPRESSION [NAME=VALUE]... */
bool open_workspace(cmd_workspace *space, int count, char **arguments, ad_dtype dtype, cmd_fault *fault);
void close_workspace(cmd_workspace *space);
/* A value of the shape of y, from text: for --seed. An invalid variable and a fault if it is none. */
ad_var read_seed(cmd_workspace *space, const char *text, ad_var y, cmd_fault *fault);

struct option;
/* The next option of getopt_long, -1 after the last. Of an unknown one, or of --help, it has told the user: then it is
 * OPTION_DONE, and *status what to return. */
enum { OPTION_DONE = 1000 };
int next_option(int argc, char **argv, const char *letters, const struct option *options, const char *help,
                int *status);
bool read_dtype(const char *text, ad_dtype *dtype, cmd_fault *fault);
bool read_integer(const char *option, const char *text, int least, int most, int *value, cmd_fault *fault);

/* ---- the commands: argv[0] is their name ------------------------------------------------------------------------------ */

/* What the commands show, of a workspace whose program was run, for the repl. */
bool show_gradients(cmd_workspace *space, FILE *out, cmd_fault *fault);
bool show_trace(cmd_workspace *space, const char *format, FILE *out, cmd_fault *fault); /* NULL: text */
bool show_check(cmd_workspace *space, FILE *out, cmd_fault *fault);
bool show_ops(const char *name, FILE *out, cmd_fault *fault);

int command_trace(int argc, char **argv);
int command_grad(int argc, char **argv);
int command_check(int argc, char **argv);
int command_ops(int argc, char **argv);
/* Only where cJSON was found. */
int command_show(int argc, char **argv);
int command_diff(int argc, char **argv);
int command_repl(int argc, char **argv);

#endif
