/* echo_datagrams(): what UdpEcho of udp.py does in a turn of the loop, with a system call for 16 datagrams.
 *
 * UdpEcho.echo_in_python() is the reference. */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define AT_ONCE 16
#define LARGEST 65536 /* bytes, more than a datagram has */
#define CONTROL 64    /* bytes: what says where a datagram was sent to */

static char content[AT_ONCE][LARGEST]; /* its pages are there as soon as something is written to them */

PyObject *echo_datagrams(PyObject *, PyObject *);

static unsigned
port_of(const struct sockaddr_storage *peer)
{
    /* an IPv6 address has its port in the same place */
    return ntohs(((const struct sockaddr_in *)peer)->sin_port);
}

/* Sends each back, where its port is not among no_answer_to, a bit for each port. Returns how many were sent. */
static int
send_back(int fd, struct mmsghdr *messages, int count, const unsigned char *no_answer_to, long long *sent)
{
    struct mmsghdr answers[AT_ONCE];
    int wanted = 0, echoed = 0;
    for (int each = 0; each < count; each++) {
        unsigned port = port_of(messages[each].msg_hdr.msg_name);
        if (no_answer_to[port >> 3] >> (port & 7) & 1)
            continue;
        answers[wanted] = messages[each];
        answers[wanted].msg_hdr.msg_iov->iov_len = messages[each].msg_len;
        answers[wanted++].msg_hdr.msg_flags = 0;
    }
    for (int at = 0; at < wanted;) {
        int taken = sendmmsg(fd, answers + at, (unsigned)(wanted - at), MSG_DONTWAIT);
        if (taken <= 0) {
            at++; /* this one can't be answered, or there is no room for it */
            continue;
        }
        for (; taken; taken--, echoed++)
            *sent += answers[at++].msg_len;
    }
    return echoed;
}

PyObject *
echo_datagrams(PyObject *module, PyObject *arguments)
{
    (void)module;
    int fd, most;
    long long most_bytes, received = 0, sent = 0;
    const char *no_answer_to;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "iy#iL", &fd, &no_answer_to, &size, &most, &most_bytes))
        return NULL;
    if (size != 8192) {
        PyErr_SetString(PyExc_ValueError, "expected a bit for each port");
        return NULL;
    }
    struct mmsghdr messages[AT_ONCE];
    struct iovec places[AT_ONCE];
    struct sockaddr_storage peers[AT_ONCE];
    _Alignas(struct cmsghdr) char control[AT_ONCE][CONTROL];
    int echoed = 0, read = 0;
    while (read < most && received < most_bytes) {
        int wanted = most - read < AT_ONCE ? most - read : AT_ONCE;
        for (int each = 0; each < wanted; each++) {
            places[each] = (struct iovec){content[each], LARGEST};
            messages[each].msg_hdr = (struct msghdr){
                .msg_name = &peers[each], .msg_namelen = sizeof peers[each], .msg_iov = &places[each], .msg_iovlen = 1,
                .msg_control = control[each], .msg_controllen = CONTROL,
            };
        }
        int count = recvmmsg(fd, messages, (unsigned)wanted, MSG_DONTWAIT, NULL);
        if (count <= 0)
            break; /* nothing more, or an error that belongs to what was sent before */
        read += count;
        for (int each = 0; each < count; each++)
            received += messages[each].msg_len;
        echoed += send_back(fd, messages, count, (const unsigned char *)no_answer_to, &sent);
        if (count < wanted)
            break;
    }
    return Py_BuildValue("iiLL", echoed, read - echoed, received, sent);
}
