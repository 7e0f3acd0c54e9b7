/* Faults at the n-th file or socket operation of a process, preloaded with LD_PRELOAD.
 *
 * Operations are counted on paths below `prefix`, without the shared memory of SQLite
 * ("-shm"), and on connections to `port`. The control block is shared by a process and its
 * children: a parent arms it, forks, and reads the counts after the child has died. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OPEN = 1, WRITE = 2, SYNC = 4, TRUNCATE = 8, RENAME = 16, UNLINK = 32, MKDIR = 64, READ = 128, SOCKET = 256 };
enum { NOTHING, SIGNAL_BEFORE, SIGNAL_AFTER, SIGNAL_HALFWAY, FAIL, SHORT, CUT };
enum { FILES = 4096 };

struct control {
    int32_t armed, kinds, action, value, forever, port, journal, fired;
    int64_t at, count, clock_at, clock_offset; /* operations; nanoseconds */
    int64_t calls[4]; /* of hooks in Python */
    int64_t counts[16]; /* operations by kind, bit by bit */
    char prefix[PATH_MAX];
};

struct entry { /* of the journal; the path and the data follow */
    int32_t kind, path;
    int64_t offset, length;
};

static struct control *control;
static char *names[FILES]; /* paths of open files below the prefix */
static char sockets[FILES];

struct control *faults_control(void) { return control; }

void faults_forget(void) { control = NULL; } /* in this process alone */

__attribute__((constructor)) static void start(void) {
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

#define REAL(result, name, ...)                       \
    static result (*real)(__VA_ARGS__);               \
    if (!real) real = (result(*)(__VA_ARGS__))next(name)

static int watched(int directory, const char *path, char *full) {
    if (!control || !control->armed || !path) return 0;
    if (path[0] == '/') {
        strncpy(full, path, PATH_MAX - 1);
    } else {
        char link[64];
        if (directory == AT_FDCWD) strcpy(link, "/proc/self/cwd");
        else sprintf(link, "/proc/self/fd/%d", directory);
        ssize_t size = readlink(link, full, PATH_MAX / 2);
        if (size <= 0) return 0;
        full[size] = '/';
        strncpy(full + size + 1, path, PATH_MAX / 2 - 2);
    }
    size_t length = strlen(full);
    if (length > 4 && !strcmp(full + length - 4, "-shm")) return 0;
    return !strncmp(full, control->prefix, strlen(control->prefix));
}

static int is_watched(int file) {
    return control && control->armed && file >= 0 && file < FILES && names[file];
}

/* Count an operation; return its fault. */
static int fault(int kind) {
    __sync_add_and_fetch(&control->counts[__builtin_ctz(kind)], 1);
    if (!(kind & control->kinds)) return NOTHING;
    int64_t number = __sync_add_and_fetch(&control->count, 1);
    if (control->clock_at && number == control->clock_at) control->armed |= 2;
    if (control->at == 0 || number < control->at) return NOTHING;
    if (number > control->at && !control->forever) return NOTHING;
    control->fired = 1;
    if (control->action == SIGNAL_BEFORE) {
        kill(getpid(), control->value);
        return NOTHING;
    }
    if (control->action == FAIL) errno = control->value;
    return control->action;
}

static void after(int action) {
    if (action == SIGNAL_AFTER || action == SIGNAL_HALFWAY) {
        int kept = errno;
        kill(getpid(), control->value);
        errno = kept;
    }
}

static void note(int kind, const char *path, int64_t offset, const void *data, int64_t length) {
    if (!control->journal) return;
    struct entry entry = {kind, (int32_t)strlen(path), offset, length};
    struct iovec parts[] = {{&entry, sizeof entry}, {(void *)path, entry.path}, {(void *)data, data ? length : 0}};
    syscall(SYS_writev, control->journal, parts, 3);
}

/* Note what a synced file holds: libraries that make system calls themselves are not seen here. */
static void note_content(int file) {
    struct stat status;
    if (!control->journal || fstat(file, &status)) return;
    char *data = S_ISREG(status.st_mode) ? malloc(status.st_size + 1) : NULL;
    int64_t length = data ? syscall(SYS_pread64, file, data, status.st_size, 0) : 0;
    note(SYNC, names[file], 0, data, length);
    free(data);
}

/* Files */

static int opened(int file, const char *full, int flags) {
    if (file >= 0 && file < FILES) {
        free(names[file]);
        names[file] = strdup(full);
        if (flags & (O_CREAT | O_TRUNC)) note(OPEN, full, flags & O_TRUNC ? 1 : 0, NULL, 0);
    }
    return file;
}

static int open_any(int directory, const char *path, int flags, mode_t mode) {
    REAL(int, "openat", int, const char *, int, ...);
    char full[PATH_MAX] = "";
    if (!watched(directory, path, full)) return real(directory, path, flags, mode);
    int writes = (flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT;
    int action = writes ? fault(OPEN) : fault(READ);
    if (action == FAIL) return -1;
    int file = opened(real(directory, path, flags, mode), full, flags);
    after(action);
    return file;
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

#define OPENING(name)                                      \
    int name(const char *path, int flags, ...) {           \
        va_list rest;                                      \
        va_start(rest, flags);                             \
        mode_t mode = mode_of(flags, rest);                \
        va_end(rest);                                      \
        return open_any(AT_FDCWD, path, flags, mode);      \
    }
#define OPENING_AT(name)                                            \
    int name(int directory, const char *path, int flags, ...) {     \
        va_list rest;                                               \
        va_start(rest, flags);                                      \
        mode_t mode = mode_of(flags, rest);                         \
        va_end(rest);                                               \
        return open_any(directory, path, flags, mode);              \
    }
OPENING(open)
OPENING(open64)
OPENING_AT(openat)
OPENING_AT(openat64)

int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int file) {
    REAL(int, "close", int);
    if (file >= 0 && file < FILES) {
        free(names[file]);
        names[file] = NULL;
        sockets[file] = 0;
    }
    return real(file);
}

static ssize_t written(int file, const void *data, ssize_t size, off_t offset, int action) {
    if (size > 0) note(WRITE, names[file], offset, data, size);
    after(action);
    return size;
}

static size_t part(size_t size, int action) {
    return (action == SHORT || action == SIGNAL_HALFWAY) && size > 1 ? size / 2 : size;
}

ssize_t write(int file, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (!is_watched(file)) return real(file, data, size);
    int action = fault(WRITE);
    if (action == FAIL) return -1;
    ssize_t done = real(file, data, part(size, action));
    return written(file, data, done, lseek(file, 0, SEEK_CUR) - done, action);
}

static ssize_t pwrite_any(int file, const void *data, size_t size, off_t offset) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t);
    if (!is_watched(file)) return real(file, data, size, offset);
    int action = fault(WRITE);
    if (action == FAIL) return -1;
    ssize_t done = real(file, data, part(size, action), offset);
    return written(file, data, done, offset, action);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset) { return pwrite_any(file, data, size, offset); }
ssize_t pwrite64(int file, const void *data, size_t size, off_t offset) { return pwrite_any(file, data, size, offset); }

ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (!is_watched(file)) return real(file, parts, count);
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        ssize_t done = write(file, parts[i].iov_base, parts[i].iov_len);
        if (done < 0) return total ? total : done;
        total += done;
        if (done < (ssize_t)parts[i].iov_len) break;
    }
    return total;
}

ssize_t read(int file, void *data, size_t size) {
    REAL(ssize_t, "read", int, void *, size_t);
    if (!is_watched(file)) return real(file, data, size);
    int action = fault(READ);
    if (action == FAIL) return -1;
    ssize_t done = real(file, data, part(size, action));
    after(action);
    return done;
}

static ssize_t pread_any(int file, void *data, size_t size, off_t offset) {
    REAL(ssize_t, "pread64", int, void *, size_t, off_t);
    if (!is_watched(file)) return real(file, data, size, offset);
    int action = fault(READ);
    if (action == FAIL) return -1;
    ssize_t done = real(file, data, size, offset);
    after(action);
    return done;
}

ssize_t pread(int file, void *data, size_t size, off_t offset) { return pread_any(file, data, size, offset); }
ssize_t pread64(int file, void *data, size_t size, off_t offset) { return pread_any(file, data, size, offset); }

#define SYNCING(name)                                       \
    int name(int file) {                                    \
        REAL(int, #name, int);                              \
        if (!is_watched(file)) return real(file);           \
        int action = fault(SYNC);                           \
        if (action == FAIL) return -1;                      \
        int result = real(file);                            \
        note_content(file);                                 \
        after(action);                                      \
        return result;                                      \
    }
SYNCING(fsync)
SYNCING(fdatasync)

static int truncate_any(int file, off_t size) {
    REAL(int, "ftruncate64", int, off_t);
    if (!is_watched(file)) return real(file, size);
    int action = fault(TRUNCATE);
    if (action == FAIL) return -1;
    int result = real(file, size);
    note(TRUNCATE, names[file], size, NULL, 0);
    after(action);
    return result;
}

int ftruncate(int file, off_t size) { return truncate_any(file, size); }
int ftruncate64(int file, off_t size) { return truncate_any(file, size); }

int fallocate(int file, int mode, off_t offset, off_t size) {
    REAL(int, "fallocate64", int, int, off_t, off_t);
    if (!is_watched(file)) return real(file, mode, offset, size);
    int action = fault(TRUNCATE);
    return action == FAIL ? -1 : real(file, mode, offset, size);
}

static int renamed(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    char source[PATH_MAX] = "", target[PATH_MAX] = "";
    int inside = watched(from_at, from, source) | watched(to_at, to, target);
    if (!inside) return real(from_at, from, to_at, to, flags);
    int action = fault(RENAME);
    if (action == FAIL) return -1;
    int result = real(from_at, from, to_at, to, flags);
    if (result == 0) {
        note(RENAME, source, 0, target, strlen(target));
        for (int file = 0; file < FILES; file++)
            if (names[file] && !strcmp(names[file], source)) {
                free(names[file]);
                names[file] = strdup(target);
            }
    }
    after(action);
    return result;
}

int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renamed(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { return renamed(a, from, b, to, flags); }

static int removed(int directory, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    char full[PATH_MAX] = "";
    if (!watched(directory, path, full)) return real(directory, path, flags);
    int action = fault(UNLINK);
    if (action == FAIL) return -1;
    int result = real(directory, path, flags);
    if (result == 0) note(UNLINK, full, 0, NULL, 0);
    after(action);
    return result;
}

int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int directory, const char *path, int flags) { return removed(directory, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    char full[PATH_MAX] = "";
    if (!watched(AT_FDCWD, path, full)) return real(path, mode);
    int action = fault(MKDIR);
    if (action == FAIL) return -1;
    int result = real(path, mode);
    if (result == 0) note(MKDIR, full, 0, NULL, 0);
    after(action);
    return result;
}

/* Connections to the port */

int connect(int file, const struct sockaddr *address, socklen_t size) {
    REAL(int, "connect", int, const struct sockaddr *, socklen_t);
    int inside = control && control->armed && control->port && file < FILES && address &&
                 address->sa_family == AF_INET &&
                 ntohs(((const struct sockaddr_in *)address)->sin_port) == control->port;
    if (!inside) return real(file, address, size);
    sockets[file] = 1;
    int action = fault(SOCKET);
    if (action == FAIL || action == CUT) {
        errno = ECONNREFUSED;
        return -1;
    }
    int result = real(file, address, size);
    after(action);
    return result;
}

static int socket_fault(int file) {
    if (!control || !control->armed || file < 0 || file >= FILES || !sockets[file]) return NOTHING;
    int action = fault(SOCKET);
    if (action == CUT) shutdown(file, SHUT_RDWR);
    return action;
}

ssize_t send(int file, const void *data, size_t size, int flags) {
    REAL(ssize_t, "send", int, const void *, size_t, int);
    int action = socket_fault(file);
    if (action == FAIL) return -1;
    ssize_t done = real(file, data, action ? part(size, action) : size, flags);
    after(action);
    return done;
}

ssize_t recv(int file, void *data, size_t size, int flags) {
    REAL(ssize_t, "recv", int, void *, size_t, int);
    int action = socket_fault(file);
    if (action == FAIL) return -1;
    ssize_t done = real(file, data, size, flags);
    after(action);
    return done;
}

/* The time of day */

static int64_t shift(void) { return control && control->armed & 2 ? control->clock_offset : 0; }

int clock_gettime(clockid_t clock, struct timespec *time) {
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int result = real(clock, time);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) time->tv_sec += shift() / 1000000000;
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    REAL(int, "gettimeofday", struct timeval *, void *);
    int result = real(time, zone);
    time->tv_sec += shift() / 1000000000;
    return result;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
