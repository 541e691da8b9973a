/* The dump for Graphviz. */
#include "autodiff/dump/dump.h"

void ad_dump_dot(ad_dump *dump) { ad_writer_print(&dump->writer, "digraph tape {}\n"); }
