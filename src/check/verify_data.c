#include "check/verify_run.h"
int uz_verify_data(struct uz_verify_run *run, struct uz_error *err)
{
    (void)run;
    (void)err;
    return UZ_OK;
}
