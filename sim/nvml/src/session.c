/* The library's session in this process, and the way every call takes: session, lock, faults, answer, count. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simulator.h"

static nvmlSimHandle *session;
static unsigned session_users;

nvmlReturn_t session_lock(State **state)
{
    process_lock();
    nvmlReturn_t answer = session_users == 0 ? NVML_ERROR_UNINITIALIZED : file_lock(session);
    if (answer != NVML_SUCCESS) {
        process_unlock();
        return answer;
    }
    procfs_follow_environment(true);
    *state = session->state;
    return NVML_SUCCESS;
}

void session_unlock(void)
{
    procfs_follow_environment(false);
    file_unlock(session);
    process_unlock();
}

Call call_begin(const char *entry)
{
    Call call = {NULL, NVML_SUCCESS};
    call.answer = session_lock(&call.state);
    Fault *fault = call.answer == NVML_SUCCESS ? fault_find(call.state, entry) : NULL;
    if (fault != NULL)
        call.answer = fault_apply(&call, fault);
    return call;
}

static void count_answer(State *state, nvmlReturn_t answer)
{
    if (answer != NVML_SUCCESS)
        state->counters.refusals[answer < NVMLSIM_CODES ? answer : NVMLSIM_CODES - 1]++;
}

/* call->state is NULL when the lock was never taken. */
nvmlReturn_t call_end(Call *call)
{
    if (call->state != NULL) {
        count_answer(call->state, call->answer);
        session_unlock();
    }
    return call->answer;
}

nvmlReturn_t copy_text(const char *text, char *buffer, unsigned length)
{
    if (buffer == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (length <= strlen(text))
        return NVML_ERROR_INSUFFICIENT_SIZE;
    memcpy(buffer, text, strlen(text) + 1);
    return NVML_SUCCESS;
}

static nvmlReturn_t join_session(void)
{
    const char *path = getenv("NVMLSIM_STATE");
    nvmlReturn_t answer = NVML_SUCCESS;
    process_lock();
    if (session_users == 0)
        answer = path == NULL ? NVML_ERROR_DRIVER_NOT_LOADED : store_open(path, &session);
    if (answer == NVML_SUCCESS)
        session_users++;
    process_unlock();
    return answer;
}

static nvmlReturn_t leave_session(void)
{
    nvmlReturn_t answer = NVML_ERROR_UNINITIALIZED;
    process_lock();
    if (session_users > 0) {
        answer = NVML_SUCCESS;
        if (--session_users == 0) {
            store_close(session);
            session = NULL;
        }
    }
    process_unlock();
    return answer;
}

/* The state has to be open before its faults are known; a failed initialisation leaves no session behind. */
static nvmlReturn_t initialise(const char *entry)
{
    nvmlReturn_t answer = join_session();
    if (answer != NVML_SUCCESS)
        return answer;
    Call call = call_begin(entry);
    answer = call_end(&call);
    if (answer != NVML_SUCCESS)
        leave_session();
    return answer;
}

EXPORT nvmlReturn_t nvmlInit(void)
{
    return initialise(__func__);
}

EXPORT nvmlReturn_t nvmlInit_v2(void)
{
    return initialise(__func__);
}

EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned flags)
{
    (void)flags; /* they only say what to do about GPUs that cannot be attached */
    return initialise(__func__);
}

EXPORT nvmlReturn_t nvmlShutdown(void)
{
    Call call = call_begin(__func__);
    nvmlReturn_t answer = call_end(&call);
    return answer == NVML_SUCCESS ? leave_session() : answer;
}

EXPORT const char *nvmlErrorString(nvmlReturn_t code)
{
    switch (code) {
    case NVML_SUCCESS: return "Success";
    case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_TIMEOUT: return "Timeout";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_RESET_REQUIRED: return "GPU requires reset";
    case NVML_ERROR_OPERATING_SYSTEM: return "The operating system has blocked the request";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    case NVML_ERROR_IN_USE: return "In use by another client";
    case NVML_ERROR_MEMORY: return "Insufficient Memory";
    case NVML_ERROR_INSUFFICIENT_RESOURCES: return "Insufficient Resources";
    case NVML_ERROR_ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
    default: return "Unknown Error";
    }
}
