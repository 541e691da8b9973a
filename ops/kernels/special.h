/* Special functions that the C library lacks, or has in a form that is not thread-safe, in double; f32 is computed in double
 * and rounded. They are too long for vector code, and compiled once. */
#ifndef AD_SPECIAL_H
#define AD_SPECIAL_H

#define AD_SQRT_PI     1.77245385090551602730
#define AD_INV_SQRT_PI 0.56418958354775628695
#define AD_LN2         0.69314718055994530942
#define AD_LN10        2.30258509299404568402

enum { AD_POLYGAMMA_ORDERS = 100 }; /* of the op; its derivative asks for one more */

double ad_lgamma_f64(double x); /* log |Gamma(x)| */
double ad_digamma_f64(double x);
double ad_trigamma_f64(double x);
double ad_polygamma_f64(double order, double x); /* the derivative of digamma of that order, a whole number >= 0 */
double ad_erfinv_f64(double x);

#endif
