/* adtape: reverse-mode automatic differentiation with a tape. This header is all of it. */
#ifndef ADTAPE_H
#define ADTAPE_H

#include <adtape/base.h>
#include <adtape/check.h>
#include <adtape/checkpoint.h>
#include <adtape/dump.h>
#include <adtape/memory.h>
#include <adtape/op.h>
#include <adtape/ops.h>
#include <adtape/optim.h>
#include <adtape/profile.h>
#include <adtape/tape.h>
#include <adtape/transform.h>

#endif
