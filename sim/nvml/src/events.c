/* Event sets: what was registered lives in the process, what happened lives in the shared state. */
#include <stdlib.h>
#include <time.h>

#include "simulator.h"

enum {
    MAX_EVENT_SETS = 32,
    EVENT_SET_TAG = 9 << 16, /* small and never 0, like the other handles */
    EVENT_ECC_SINGLE = 1,
    EVENT_ECC_DOUBLE = 2,
    EVENT_XID = 8,
    EVENT_KNOWN = EVENT_ECC_SINGLE | EVENT_ECC_DOUBLE | EVENT_XID,
    WAIT_STEP_MS = 500, /* a bound on a wake-up lost to a state file that was replaced */
};

typedef struct {
    bool used;
    uint32_t next;                 /* the first event not yet looked at */
    uint64_t registered[MAX_GPUS]; /* event types by GPU */
} EventSet;

/* Guarded by the process lock, which every call holds. */
static EventSet sets[MAX_EVENT_SETS];

static EventSet *find_set(nvmlEventSet_t handle)
{
    uintptr_t index = handle - EVENT_SET_TAG;
    return index < MAX_EVENT_SETS && sets[index].used ? &sets[index] : NULL;
}

static nvmlReturn_t create_set(const State *state, nvmlEventSet_t *handle)
{
    if (handle == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned index = 0; index < MAX_EVENT_SETS; index++)
        if (!sets[index].used) {
            sets[index] = (EventSet){.used = true, .next = state->event_sequence};
            *handle = EVENT_SET_TAG + index;
            return NVML_SUCCESS;
        }
    return NVML_ERROR_MEMORY;
}

static nvmlReturn_t free_set(nvmlEventSet_t handle)
{
    EventSet *set = find_set(handle);
    if (set == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    set->used = false;
    return NVML_SUCCESS;
}

/* Events are of the whole GPU; a MIG device cannot be registered. */
static nvmlReturn_t register_events(State *state, nvmlDevice_t device, uint64_t types, nvmlEventSet_t handle)
{
    Target target;
    EventSet *set = find_set(handle);
    if (set == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_either(state, device, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (target.compute != NULL || (types & ~(uint64_t)EVENT_KNOWN) != 0)
        return NVML_ERROR_NOT_SUPPORTED;
    set->registered[target.slot] |= types;
    return NVML_SUCCESS;
}

static nvmlReturn_t supported_types(State *state, nvmlDevice_t device, unsigned long long *types)
{
    Target target;
    nvmlReturn_t answer = types == NULL ? NVML_ERROR_INVALID_ARGUMENT : find_either(state, device, &target);
    if (answer == NVML_SUCCESS)
        *types = EVENT_KNOWN;
    return answer;
}

/* The oldest event that this set registered for and has not been given. Events that were pushed out of the
 * ring before it looked are lost to it. */
static bool take_event(const State *state, EventSet *set, nvmlEventData_t *data)
{
    if (state->event_sequence - set->next > MAX_EVENTS)
        set->next = state->event_sequence - MAX_EVENTS;
    while (set->next != state->event_sequence) {
        const Event *event = &state->events[set->next++ % MAX_EVENTS];
        if ((set->registered[event->gpu] & event->type) == 0)
            continue;
        *data = (nvmlEventData_t){device_handle(event->gpu), event->type, event->data, event->gpu_instance,
                                  event->compute_instance};
        return true;
    }
    return false;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Called and left with the session locked, like every body; unlocked while it waits. */
static nvmlReturn_t wait_for_event(Call *call, nvmlEventSet_t handle, nvmlEventData_t *data, unsigned timeout_ms)
{
    uint64_t end = now_ms() + timeout_ms;
    for (;;) {
        EventSet *set = find_set(handle);
        if (set == NULL || data == NULL)
            return NVML_ERROR_INVALID_ARGUMENT;
        if (take_event(call->state, set, data))
            return NVML_SUCCESS;
        uint64_t now = now_ms();
        if (now >= end)
            return NVML_ERROR_TIMEOUT;
        uint32_t *word = &call->state->event_sequence;
        uint32_t seen = *word;
        session_unlock();
        call->state = NULL;
        wait_for_change(word, seen, end - now < WAIT_STEP_MS ? (unsigned)(end - now) : WAIT_STEP_MS);
        nvmlReturn_t answer = session_lock(&call->state);
        if (answer != NVML_SUCCESS)
            return answer;
    }
}

EXPORT nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set)
{
    ANSWER(create_set(state, set));
}

EXPORT nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
    Call call = call_begin(__func__);
    if (call.answer == NVML_SUCCESS)
        call.answer = free_set(set);
    return call_end(&call);
}

EXPORT nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set)
{
    ANSWER(register_events(state, device, types, set));
}

EXPORT nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types)
{
    ANSWER(supported_types(state, device, types));
}

EXPORT nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned timeout_ms)
{
    Call call = call_begin(__func__);
    if (call.answer == NVML_SUCCESS)
        call.answer = wait_for_event(&call, set, data, timeout_ms);
    return call_end(&call);
}
