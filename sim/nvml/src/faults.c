/* Faults that a test arms: latency, failure of the nth call, and entry points that hang. */
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "simulator.h"

enum { HUNG_RECHECK_MS = 200 }; /* a bound on a wake-up lost to a state file that was replaced */

/* Futexes on a shared mapping work across processes; a plain one is not private. */
void wait_for_change(uint32_t *word, uint32_t seen, unsigned milliseconds)
{
    struct timespec limit = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000};
    syscall(SYS_futex, word, FUTEX_WAIT, seen, &limit, NULL, 0);
}

void announce_change(uint32_t *word)
{
    __atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

Fault *fault_find(State *state, const char *entry)
{
    for (unsigned index = 0; index < MAX_FAULTS && state->faults[index].entry[0] != '\0'; index++)
        if (strcmp(state->faults[index].entry, entry) == 0)
            return &state->faults[index];
    return NULL;
}

/* The fault of this entry point, made if there is none: places are taken in order and never given back. */
nvmlReturn_t fault_for(State *state, const char *entry, Fault **fault)
{
    if (entry == NULL || entry[0] == '\0' || strlen(entry) >= MAX_ENTRY_NAME)
        return NVML_ERROR_INVALID_ARGUMENT;
    *fault = fault_find(state, entry);
    for (unsigned index = 0; *fault == NULL && index < MAX_FAULTS; index++)
        if (state->faults[index].entry[0] == '\0') {
            *fault = &state->faults[index];
            strcpy((*fault)->entry, entry);
        }
    return *fault == NULL ? NVML_ERROR_INSUFFICIENT_RESOURCES : NVML_SUCCESS;
}

static void sleep_microseconds(unsigned microseconds)
{
    struct timespec left = {microseconds / 1000000, (long)(microseconds % 1000000) * 1000};
    while (nanosleep(&left, &left) != 0)
        continue;
}

/* Called and left with the session locked (unless it ended meanwhile: then call->state is NULL). The fault is
 * kept by its place, since the state may be mapped anew while nothing is locked. */
static nvmlReturn_t wait_until_released(Call *call, ptrdiff_t place)
{
    uint32_t turn = call->state->faults[place].hung_turn;
    call->state->faults[place].waiting++;
    while (call->state->faults[place].hung) {
        uint32_t seen = __atomic_load_n(&call->state->fault_sequence, __ATOMIC_SEQ_CST);
        uint32_t *word = &call->state->fault_sequence;
        session_unlock();
        wait_for_change(word, seen, HUNG_RECHECK_MS);
        call->state = NULL;
        nvmlReturn_t answer = session_lock(&call->state);
        if (answer != NVML_SUCCESS)
            return answer;
    }
    if (call->state->faults[place].hung_turn == turn)
        call->state->faults[place].waiting--;
    return NVML_SUCCESS;
}

nvmlReturn_t fault_apply(Call *call, Fault *fault)
{
    nvmlReturn_t code = NVML_SUCCESS;
    if (fault->fail_in > 0 && --fault->fail_in == 0)
        code = (nvmlReturn_t)fault->fail_code;
    unsigned latency = fault->latency_us;
    if (fault->hung) {
        nvmlReturn_t answer = wait_until_released(call, fault - call->state->faults);
        if (answer != NVML_SUCCESS)
            return answer;
    }
    if (latency > 0) {
        session_unlock();
        sleep_microseconds(latency);
        call->state = NULL;
        nvmlReturn_t answer = session_lock(&call->state);
        if (answer != NVML_SUCCESS)
            return answer;
    }
    return code;
}
