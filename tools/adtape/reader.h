/* A dump that was read back: AD_DUMP_JSON as a source of dumps. */
#ifndef ADTAPE_READER_H
#define ADTAPE_READER_H

#include "tools/adtape/command.h"

typedef struct cmd_reader cmd_reader;

/* NULL and a fault if the file cannot be read or is not a dump. */
cmd_reader *open_reader(const char *path, cmd_fault *fault);
void close_reader(cmd_reader *reader); /* NULL is allowed */
ad_dump_source source_of_reader(cmd_reader *reader);
/* What shows all that the file has, with as many digits as it was made with. Options that are set stay. */
void fill_reader_options(const cmd_reader *reader, ad_dump_options *options);

#endif
