/* profile: where a training step spends its time, by op and by scope.
 *
 * With a file name, also a trace for ui.perfetto.dev: profile trace.json */
#include <adtape.h>

#include <stdio.h>

enum { rows = 64, width = 128 };

static float numbers[width * width];

static ad_var layer(ad_tape *t, const char *name, ad_var x) {
    ad_scope_begin(t, "%s", name);
    ad_var w = ad_leaf(t, "w", AD_F32, AD_SHAPE(width, width), numbers);
    ad_var b = ad_leaf(t, "b", AD_F32, AD_SHAPE(width), numbers);
    ad_var y = ad_gelu(ad_layer_norm(ad_add(ad_matmul(x, w), b), 1, b, b, 1e-5));
    ad_scope_end(t);
    return y;
}

int main(int argc, char **argv) {
    ad_tape *t = ad_tape_new(NULL);
    ad_profile *profile;
    if (ad_profile_new(&profile, NULL, NULL) != AD_OK) return 1;
    ad_tape_attach_profile(t, profile);
    ad_rng rng = {.seed = 1, .counter = 0};
    for (int i = 0; i < width * width; i++) numbers[i] = 0.1f * (float)ad_rng_normal(&rng);
    for (int step = 0; step < 5 && ad_tape_status(t) == AD_OK; step++) {
        ad_tape_reset(t);
        ad_var x = ad_constant(t, "x", AD_F32, AD_SHAPE(rows, width), numbers);
        ad_backward(ad_mean(layer(t, "second", layer(t, "first", x)), AD_ALL_AXES, false));
    }
    ad_status status = ad_tape_status(t);
    if (status != AD_OK) fprintf(stderr, "profile: %s\n", ad_tape_error(t));
    ad_profile_print(profile, stdout);
    FILE *file = argc > 1 ? fopen(argv[1], "w") : NULL;
    if (file) status = ad_profile_trace(profile, file);
    if (file && fclose(file) != 0) status = AD_ERR_IO;
    if (argc > 1 && (!file || status)) fprintf(stderr, "profile: %s cannot be written\n", argv[1]);
    ad_tape_free(t);
    ad_profile_free(profile);
    return status != AD_OK || (argc > 1 && !file);
}
