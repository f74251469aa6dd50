package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	logQueue = 4096 // lines that wait for the disk; further ones are dropped and counted
	logFiles = 3    // FILE, FILE.1 and FILE.2
)

// entry is one line of the access log.
type entry struct {
	Time     time.Time `json:"time"` // when the request arrived
	ID       string    `json:"id"`
	Remote   string    `json:"remote"`
	Host     string    `json:"host"`
	Method   string    `json:"method"`
	Path     string    `json:"path"`
	Status   int       `json:"status"`
	Bytes    int64     `json:"bytes"`
	Ms       float64   `json:"ms"`
	Service  string    `json:"service,omitempty"` // or the site's name
	Arm      string    `json:"arm,omitempty"`
	Instance string    `json:"instance,omitempty"`
	Attempts int       `json:"attempts,omitempty"` // upstreams asked, where it was more than one
	Cache    string    `json:"cache,omitempty"`    // of a site: Hit, Miss …
	Error    string    `json:"error,omitempty"`
}

// accessLog writes entries from a goroutine of its own, so that a slow disk
// never holds a request up.
type accessLog struct {
	path    string
	limit   int64 // bytes of one file
	entries chan entry
	done    chan struct{}
	dropped atomic.Int64

	mu     sync.Mutex
	failed error // the last failure to write
}

// openAccessLog begins the log at path, "" for none.
func openAccessLog(path string, limit int64) (*accessLog, error) {
	l := &accessLog{path: path, limit: limit, entries: make(chan entry, logQueue), done: make(chan struct{})}
	if path == "" {
		close(l.done)
		return l, nil
	}
	file, size, err := openAppend(path)
	if err != nil {
		return nil, err
	}
	go l.run(file, size)
	return l, nil
}

func openAppend(path string) (*os.File, int64, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("open access log: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("open access log: %w", err), file.Close())
	}
	return file, info.Size(), nil
}

// write queues an entry; it never waits.
func (l *accessLog) write(e entry) {
	if l.path == "" {
		return
	}
	select {
	case l.entries <- e:
	default:
		l.dropped.Add(1)
	}
}

// close writes what is queued and ends the log. Nothing may be written after.
func (l *accessLog) close() error {
	close(l.entries)
	<-l.done
	return l.failure()
}

func (l *accessLog) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

func (l *accessLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = err
}

// logFile is the file being written, and the lines that go out in one write.
type logFile struct {
	*accessLog
	file  *os.File
	size  int64
	lines []byte
	held  int64 // how many lines those are
}

// run writes until the queue is closed; what is queued at the moment together.
func (l *accessLog) run(file *os.File, size int64) {
	defer close(l.done)
	f := &logFile{accessLog: l, file: file, size: size}
	for e := range l.entries {
		line, err := json.Marshal(e)
		if err != nil {
			l.fail(fmt.Errorf("encode access log line: %w", err))
			l.dropped.Add(1)
			continue
		}
		if full := f.size + int64(len(f.lines)); full > 0 && full+int64(len(line)) >= l.limit {
			f.flush()
			f.rotate()
		}
		f.lines, f.held = append(append(f.lines, line...), '\n'), f.held+1
		if len(l.entries) == 0 || len(f.lines) > 64<<10 {
			f.flush()
		}
	}
	if err := f.file.Close(); err != nil {
		l.fail(fmt.Errorf("close access log: %w", err))
	}
}

func (f *logFile) flush() {
	n, err := f.file.Write(f.lines)
	if err != nil {
		f.fail(fmt.Errorf("write access log: %w", err))
		f.dropped.Add(f.held)
	}
	f.size, f.lines, f.held = f.size+int64(n), f.lines[:0], 0
}

// rotate begins a new file; if that cannot be done the old one goes on, so
// that no line is lost.
func (f *logFile) rotate() {
	for i := logFiles - 1; i > 0; i-- {
		from := f.path
		if i > 1 {
			from = fmt.Sprintf("%s.%d", f.path, i-1)
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", f.path, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.fail(fmt.Errorf("rotate access log: %w", err))
			return
		}
	}
	next, size, err := openAppend(f.path)
	if err != nil {
		f.fail(err)
		return
	}
	if err := f.file.Close(); err != nil {
		f.fail(fmt.Errorf("close access log: %w", err))
	}
	f.file, f.size = next, size
}
