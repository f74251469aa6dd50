package edge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	logQueue = 1 << 20 // bytes that wait for the disk; further lines are dropped and counted
	logFiles = 3       // FILE, FILE.1 and FILE.2
	// logDelay is how long lines are gathered for one write.
	logDelay = 50 * time.Millisecond
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

// append writes the entry's line behind others. It says what json.Marshal
// would, in a fraction of the time: each request pays for it.
func (e *entry) append(to []byte) []byte {
	to = append(to, `{"time":"`...)
	to = e.Time.AppendFormat(to, time.RFC3339Nano)
	to = appendText(append(to, '"'), "id", e.ID)
	for _, f := range [...]struct{ name, value string }{
		{"remote", e.Remote}, {"host", e.Host}, {"method", e.Method}, {"path", e.Path},
	} {
		to = appendText(to, f.name, f.value)
	}
	to = strconv.AppendInt(append(to, `,"status":`...), int64(e.Status), 10)
	to = strconv.AppendInt(append(to, `,"bytes":`...), e.Bytes, 10)
	to = strconv.AppendFloat(append(to, `,"ms":`...), e.Ms, 'f', -1, 64)
	for _, f := range [...]struct{ name, value string }{{"service", e.Service}, {"arm", e.Arm}, {"instance", e.Instance}} {
		if f.value != "" {
			to = appendText(to, f.name, f.value)
		}
	}
	if e.Attempts > 0 {
		to = strconv.AppendInt(append(to, `,"attempts":`...), int64(e.Attempts), 10)
	}
	for _, f := range [...]struct{ name, value string }{{"cache", e.Cache}, {"error", e.Error}} {
		if f.value != "" {
			to = appendText(to, f.name, f.value)
		}
	}
	return append(to, "}\n"...)
}

// appendText writes a field of text; what JSON must escape is rare.
func appendText(to []byte, name, value string) []byte {
	to = append(append(append(to, `,"`...), name...), `":`...)
	for i := 0; i < len(value); i++ {
		if c := value[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			quoted, _ := json.Marshal(value) // no text fails
			return append(to, quoted...)
		}
	}
	return append(append(append(to, '"'), value...), '"')
}

// accessLog writes entries from a goroutine of its own, so that a slow disk
// never holds a request up.
type accessLog struct {
	path    string
	limit   int64         // bytes of one file; no bound where it is none, such as a pipe
	queued  chan struct{} // there are lines
	closing chan struct{}
	done    chan struct{}
	dropped atomic.Int64

	mu     sync.Mutex
	lines  []byte
	failed error // the last failure to write
}

// openAccessLog begins the log at path, "" for none.
func openAccessLog(path string, limit int64) (*accessLog, error) {
	l := &accessLog{path: path, limit: limit, queued: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	if path == "" {
		close(l.done)
		return l, nil
	}
	file, size, err := openAppend(path)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() { // to be renamed by nobody
		l.limit = math.MaxInt64
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

// write queues an entry; it never waits for the disk.
func (l *accessLog) write(e *entry) {
	if l.path == "" {
		return
	}
	l.mu.Lock()
	first := len(l.lines) == 0
	if len(l.lines) < logQueue {
		l.lines = e.append(l.lines)
	} else {
		l.dropped.Add(1)
	}
	l.mu.Unlock()
	if first {
		select {
		case l.queued <- struct{}{}:
		default:
		}
	}
}

// close writes what is queued and ends the log. Nothing may be written after.
func (l *accessLog) close() error {
	close(l.closing)
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

// logFile is the file being written.
type logFile struct {
	*accessLog
	file *os.File
	size int64
}

// run writes until the log is closed; what came within a moment together.
func (l *accessLog) run(file *os.File, size int64) {
	defer close(l.done)
	f := &logFile{accessLog: l, file: file, size: size}
	var spare []byte
	for open := true; open; {
		select {
		case <-l.queued:
			select { // a moment more, for one write of many
			case <-time.After(logDelay):
			case <-l.closing:
			}
		case <-l.closing:
			open = false
		}
		l.mu.Lock()
		lines := l.lines
		l.lines = spare[:0]
		l.mu.Unlock()
		f.put(lines)
		if spare = lines; cap(spare) > logQueue/4 {
			spare = nil
		}
	}
	if err := f.file.Close(); err != nil {
		l.fail(fmt.Errorf("close access log: %w", err))
	}
}

// put writes lines, and begins a new file where one would become too large.
func (f *logFile) put(lines []byte) {
	for len(lines) > 0 {
		fits := 0 // bytes of whole lines that the file has room for
		for fits < len(lines) {
			line := bytes.IndexByte(lines[fits:], '\n') + 1
			if at := f.size + int64(fits); at > 0 && at+int64(line) > f.limit {
				break
			}
			fits += line
		}
		n, err := f.file.Write(lines[:fits])
		if err != nil {
			f.fail(fmt.Errorf("write access log: %w", err))
			f.dropped.Add(int64(bytes.Count(lines[n:fits], []byte{'\n'})))
		}
		f.size += int64(n)
		if lines = lines[fits:]; len(lines) > 0 {
			f.rotate()
		}
	}
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
