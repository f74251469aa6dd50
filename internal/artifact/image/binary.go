package image

import (
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"makeitso/internal/fault"
)

// machine gives the ELF machine of an architecture that images are made for.
func machine(arch string) elf.Machine {
	switch arch {
	case "amd64":
		return elf.EM_X86_64
	case "arm64":
		return elf.EM_AARCH64
	case "arm":
		return elf.EM_ARM
	case "386":
		return elf.EM_386
	case "riscv64":
		return elf.EM_RISCV
	case "ppc64le":
		return elf.EM_PPC64
	case "s390x":
		return elf.EM_S390
	}
	return elf.EM_NONE
}

// checkBinary opens a binary, judges whether it can run in an image on this
// machine, and gives the loader it asks for, "" if it is statically linked.
// The caller closes the file.
func checkBinary(path string) (_ *os.File, loader string, err error) {
	const build = "build it for this machine: CGO_ENABLED=0 GOOS=linux GOARCH=%s go build -trimpath -o %s"
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fault.New(fault.Invalid, "the binary %s does not exist", path).WithHint(build, runtime.GOARCH, path)
	}
	if err != nil {
		return nil, "", fault.Wrap(fault.Invalid, err, "the binary %s cannot be read", path)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, "", err
	}
	if !info.Mode().IsRegular() {
		return nil, "", fault.New(fault.Invalid, "the binary %s is not a regular file", path).
			WithHint("name the file that the build makes, e.g. out/api")
	}
	if info.Mode().Perm()&0o111 == 0 {
		return nil, "", fault.New(fault.Invalid, "the binary %s is not executable", path).WithHint("chmod +x %s", path)
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return nil, "", fault.New(fault.Invalid, "%s is not a Linux binary", path).WithHint(build, runtime.GOARCH, path)
	}
	if want := machine(runtime.GOARCH); e.Machine != want {
		return nil, "", fault.New(fault.Invalid, "the binary %s is for %s, this machine is %s", path, e.Machine, want).
			WithHint(build, runtime.GOARCH, path)
	}
	if e.Type != elf.ET_EXEC && e.Type != elf.ET_DYN {
		return nil, "", fault.New(fault.Invalid, "%s is not a program but an ELF file of type %s", path, e.Type).
			WithHint(build, runtime.GOARCH, path)
	}
	for _, p := range e.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(p.Open())
		if err != nil {
			return nil, "", fault.Wrap(fault.Invalid, err, "the binary %s is damaged", path)
		}
		return f, strings.TrimRight(string(name), "\x00"), nil
	}
	return f, "", nil
}
