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

// run writes until the queue is closed. What is queued at the moment goes out
// in one write.
func (l *accessLog) run(file *os.File, size int64) {
	defer close(l.done)
	var lines []byte
	held := int64(0)
	for e := range l.entries {
		line, err := json.Marshal(e)
		if err != nil {
			l.fail(fmt.Errorf("encode access log line: %w", err))
			l.dropped.Add(1)
			continue
		}
		lines, held = append(append(lines, line...), '\n'), held+1
		if len(l.entries) > 0 && len(lines) < 64<<10 {
			continue
		}
		if size > 0 && size+int64(len(lines)) > l.limit {
			file, size = l.rotate(file, size)
		}
		n, err := file.Write(lines)
		if err != nil {
			l.fail(fmt.Errorf("write access log: %w", err))
			l.dropped.Add(held)
		}
		size, lines, held = size+int64(n), lines[:0], 0
	}
	if err := file.Close(); err != nil {
		l.fail(fmt.Errorf("close access log: %w", err))
	}
}

// rotate begins a new file and gives it; if that cannot be done the old one
// goes on, so that no line is lost.
func (l *accessLog) rotate(file *os.File, size int64) (*os.File, int64) {
	for i := logFiles - 1; i > 0; i-- {
		from := l.path
		if i > 1 {
			from = fmt.Sprintf("%s.%d", l.path, i-1)
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", l.path, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.fail(fmt.Errorf("rotate access log: %w", err))
			return file, size
		}
	}
	next, nextSize, err := openAppend(l.path)
	if err != nil {
		l.fail(err)
		return file, size
	}
	if err := file.Close(); err != nil {
		l.fail(fmt.Errorf("close access log: %w", err))
	}
	return next, nextSize
}
