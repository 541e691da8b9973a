/* adtape/transform.h: derivatives of functions, which are functions again.
 *
 *   function    records outputs from inputs. A transform makes another one of it: its gradient, its Jacobian, ...
 *   transform   what it makes can be transformed again, called inside other functions, and differentiated there: a
 *               gradient penalty, the residual of a differential equation, a step of training that is trained.
 *   linear      the derivative of a function at one point, as the matrix that it is, without writing it down.
 *
 *     ad_function f = {.fn = energy, .inputs = 1, .outputs = 1}, gradient = ad_grad_of(&f);
 *     ad_function_record(&gradient, t, &x, &g);               // variables to variables
 *     ad_function_evaluate(&gradient, NULL, &in, &out, NULL); // numbers to numbers
 *
 * A derivative is by the inputs alone, and of these not by the last .constants, which may be integers. What else a
 * function uses, such as other variables of the tape, comes through .user and counts as constant for that derivative, even
 * where it depends on the same things as the inputs; for one around it, it is what it is. */
#ifndef ADTAPE_TRANSFORM_H
#define ADTAPE_TRANSFORM_H

#include <adtape/tape.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- functions ------------------------------------------------------------------------------------------- */

typedef struct ad_function ad_function;
struct ad_function {
    /* Records out[0..outputs) from in[0..inputs) on the tape. Any status but AD_OK becomes the tape's error. */
    ad_status (*fn)(ad_tape *tape, const ad_var *in, ad_var *out, void *user);
    int inputs, outputs;
    int constants; /* that many of the inputs, the last ones, are not differentiated by, and may be integers */
    void *user;
    const char *name; /* for messages; NULL: "a function" */
    /* Of what the transforms below made; zero otherwise. */
    const struct ad_transform *transform;
    const ad_function *of, *loss;
    int shared;
};

/* Calls f on variables of the tape. Returns the tape's status; on error the outputs are invalid variables. */
#define ad_function_record(...) ad_function_record_at(AD_HERE, __VA_ARGS__)
AD_API ad_status ad_function_record_at(const char *where, const ad_function *f, ad_tape *tape, const ad_var *in,
                                       ad_var *out);
/* Calls f on numbers, on a tape of its own. The outputs are new row-major tensors, the caller's to unref; NULL on error.
 * `allocator` NULL: the default. */
#define ad_function_evaluate(...) ad_function_evaluate_at(AD_HERE, __VA_ARGS__)
AD_API ad_status ad_function_evaluate_at(const char *where, const ad_function *f, const ad_allocator *allocator,
                                         ad_tensor *const *in, ad_tensor **out, ad_error *error);

/* ---- transforms ------------------------------------------------------------------------------------------ */

/* Each makes a function of f, which must stay where it is while the result is used. f has n inputs x, its constants, and m
 * outputs y; to the right are the inputs and outputs of the result, which takes the same constants, last. v, x_dot and
 * x_bar stand for n variables of the types of x, y_dot and y_bar for m. A gradient needs a single output with one
 * element. What is wrong with f is said when the result is called. */
AD_API ad_function ad_grad_of(const ad_function *f);           /* x -> gradient, of the types of x */
AD_API ad_function ad_value_and_grad_of(const ad_function *f); /* x -> y, gradient */
AD_API ad_function ad_jvp_of(const ad_function *f);            /* x, x_dot -> y, y_dot = J x_dot (forward mode) */
AD_API ad_function ad_vjp_of(const ad_function *f);            /* x, y_bar -> y, x_bar = J^T y_bar (reverse mode) */
AD_API ad_function ad_hvp_of(const ad_function *f);            /* x, v -> gradient, H v */
/* x -> J: m n outputs, number j n + i of shape [y_j, x_i]. By rows or by columns, whichever are fewer; on numbers, 16
 * to 128 of them in one walk. */
AD_API ad_function ad_jacobian_of(const ad_function *f);
AD_API ad_function ad_hessian_of(const ad_function *f);          /* x -> H: n n outputs, number i n + j: [x_i, x_j] */
AD_API ad_function ad_hessian_diagonal_of(const ad_function *f); /* x -> its diagonal, of the types of x */
/* x, v -> y, J^T H_loss J v: the Hessian of loss(f(x)) without the curvature of f (Schraudolph 2002), positive
 * semidefinite where the loss is convex. The inputs of `loss` are the outputs of f; NULL: half the sum of their squares. */
AD_API ad_function ad_gauss_newton_of(const ad_function *f, const ad_function *loss);
/* x, v -> y and d^k/dt^k f(x + t v) at t = 0 for k = 1 to `order`: (order + 1) m outputs, those of one k together. By
 * forward mode in forward mode, which records about three times as much for each order. */
AD_API ad_function ad_directional_of(const ad_function *f, int order);
/* f for each example of a batch: the first `shared` inputs are handed on whole, the others (constants too) are cut along
 * axis 0, and the outputs get that axis in front. Of ad_grad_of(f): the gradient of each example on its own. f is recorded
 * once for each. */
AD_API ad_function ad_map_of(const ad_function *f, int shared);

/* x, theta -> the x* near x with f(x*, theta) = 0: f has one output, of the type of its first input x, and further inputs
 * theta. Found by Newton's method to 1e-12 (f32: 1e-5) in each element of f, or as near as x* can be told; a solution that
 * is handed in stays as it is. A fixed point of g is a root of g(x) - x. Differentiated by theta (by x it is constant) as
 * the implicit function theorem says, to any order: the search leaves nothing on the tape. Writes df/dx down: for up to
 * some thousand unknowns. f must stay where it is while the tape holds the result. AD_ERR_VALUE if there is no solution
 * near, or df/dx is singular there. */
AD_API ad_function ad_root_of(const ad_function *f);

/* ---- the derivative at a point --------------------------------------------------------------------------- */

/* The Jacobian of f at a point, as a linear map: one recording of f, over which any number of products can be taken. Its
 * columns are all elements of all inputs of f but the constants, one input after the other in row-major order, its rows
 * those of all outputs. The Hessian of f is the Jacobian of ad_grad_of(f). Numbers go in and out as double, whatever f
 * computes in. `f` must stay where it is while the map is used; *out is the caller's to free, NULL on error. */
typedef struct ad_linear ad_linear;
#define ad_linear_new(...) ad_linear_new_at(AD_HERE, __VA_ARGS__)
AD_API ad_status ad_linear_new_at(const char *where, ad_linear **out, const ad_function *f,
                                  const ad_allocator *allocator, ad_tensor *const *in, ad_error *error);
AD_API void ad_linear_free(ad_linear *linear);          /* NULL is allowed */
AD_API int64_t ad_linear_rows(const ad_linear *linear); /* 0 for NULL, as for columns */
AD_API int64_t ad_linear_columns(const ad_linear *linear);

/* What is f there: value[rows]. */
AD_API ad_status ad_linear_value(const ad_linear *linear, double *value, ad_error *error);
/* J v and J^T u, for v[columns] and u[rows]: a walk forward (the operations' JVPs) and one back. */
AD_API ad_status ad_linear_push(ad_linear *linear, const double *v, double *product, ad_error *error);
AD_API ad_status ad_linear_pull(ad_linear *linear, const double *u, double *product, ad_error *error);
/* J itself, row-major: by rows or by columns, whichever are fewer. */
AD_API ad_status ad_linear_dense(ad_linear *linear, double *matrix, ad_error *error);
/* The map at another point x[columns]: f is recorded again, in the memory that is there. If that fails, the map has no
 * values until it is moved again. */
AD_API ad_status ad_linear_move(ad_linear *linear, const double *x, ad_error *error);

/* ---- sparse derivatives ---------------------------------------------------------------------------------- */

/* A matrix by rows: elements start[r] to start[r + 1] - 1 are those of row r. */
typedef struct ad_csr {
    int64_t rows, columns;
    const int64_t *start;  /* [rows + 1] */
    const int64_t *column; /* [start[rows]], ascending in each row */
    const double *value;   /* [start[rows]] */
} ad_csr;

/* The Jacobian of a map, of which only those elements are stored that can be other than 0. Which these are is read off the
 * recording (ad_op.depends): never too few, perhaps too many. Columns that meet in no row are multiplied together: by one
 * push for each group of columns (Curtis, Powell and Reid 1974), or one pull for each group of rows, whichever are fewer;
 * of a gradient, whose Jacobian is symmetric, for the fewer groups of a star colouring (Coleman and More 1984).
 * Errors: AD_ERR_NULL, AD_ERR_LIMIT (2^31 rows or columns), AD_ERR_OOM, and those of the products. */
typedef struct ad_sparse ad_sparse;
AD_API ad_status ad_sparse_new(ad_sparse **out, ad_linear *linear, ad_error *error);
AD_API void ad_sparse_free(ad_sparse *sparse);              /* NULL is allowed */
AD_API ad_csr ad_sparse_matrix(const ad_sparse *sparse);    /* lives as long as it; empty for NULL */
AD_API int64_t ad_sparse_products(const ad_sparse *sparse); /* that it takes to fill it; 0 for NULL */
/* The values where the map is now, by the same pattern: for a function whose recording does not depend on values. */
AD_API ad_status ad_sparse_update(ad_sparse *sparse, ad_linear *linear, ad_error *error);

/* The diagonal of a square J, in fewer products if J is sparse: columns that do not meet each other's diagonal elements
 * are multiplied together. AD_ERR_SHAPE if J is not square. */
AD_API ad_status ad_linear_diagonal(ad_linear *linear, double *diagonal, ad_error *error);

#ifdef __cplusplus
}
#endif
#endif
