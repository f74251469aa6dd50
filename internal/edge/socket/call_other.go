//go:build !linux

package socket

import "syscall"

// Read reads from a socket that does not block.
func Read(fd uintptr, p []byte) (int, error) { return call(syscall.Read, fd, p) }

// Write writes to a socket that does not block.
func Write(fd uintptr, p []byte) (int, error) { return call(syscall.Write, fd, p) }

func call(do func(fd int, p []byte) (int, error), fd uintptr, p []byte) (int, error) {
	for {
		n, err := do(int(fd), p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// Yield does nothing: how other programs get the processor is the system's affair.
func Yield() {}
