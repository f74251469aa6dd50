package local

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/fault"
)

// parameterGroup makes AWS::ElastiCache::ParameterGroup: the servers of the
// clusters that name it run with its parameters.
type parameterGroup struct{ p *Platform }

// setting is a parameter of a server that a group has set, in the server's own
// words: what it was before, and what it was right after.
type setting struct {
	Was string `json:"was"`
	Is  string `json:"is"`
}

// ourParameters are where and how this platform runs a server and keeps its
// data; a group has no say in them.
var ourParameters = []string{"appendonly", "appendfsync", "bind", "cluster-enabled", "daemonize", "dbfilename", "dir", "logfile", "port", "protected-mode", "requirepass", "save", "unixsocket"}

// groupProperties names the property of a group that holds the parameters.
const groupProperties = "Properties"

func (h parameterGroup) make(ctx context.Context, r *resource) error {
	r.PhysicalID = strings.ToLower(r.declaredOr("CacheParameterGroupName", 255))
	r.Attributes = map[string]any{"CacheParameterGroupName": r.PhysicalID}
	clusters, err := h.clusters(r)
	if err != nil {
		return err
	}
	for _, cluster := range clusters {
		if err := h.p.setParameters(ctx, cluster, parametersOf(r)); err != nil {
			return err
		}
	}
	return nil
}

func (h parameterGroup) named(r *resource) string {
	return strings.ToLower(r.text("CacheParameterGroupName"))
}

func (h parameterGroup) check(context.Context, *resource) error  { return nil }
func (h parameterGroup) read(context.Context, *resource) error   { return nil }
func (h parameterGroup) remove(context.Context, *resource) error { return nil }

// clusters gives those that name the group and have a server with parameters.
func (h parameterGroup) clusters(r *resource) ([]*resource, error) {
	all, err := h.p.complete("AWS::ElastiCache::CacheCluster")
	return slices.DeleteFunc(all, func(c *resource) bool {
		return !strings.EqualFold(c.text("CacheParameterGroupName"), r.PhysicalID) || c.By == byEmbedded
	}), err
}

// tell gives the parameters as the servers have them. One that does not answer
// is told of by its own cluster.
func (h parameterGroup) tell(ctx context.Context, r *resource) (map[string]any, error) {
	clusters, err := h.clusters(r)
	if err != nil {
		return nil, err
	}
	parameters := map[string]any{}
	for name, value := range parametersOf(r) {
		parameters[name] = value
	}
	for _, cluster := range clusters {
		for name, set := range cluster.Settings {
			is, known, err := redisParameter(ctx, cluster.Port, name)
			if _, wanted := parameters[name]; err == nil && known && wanted && is != set.Is {
				parameters[name] = is
			}
		}
	}
	told := maps.Clone(r.Properties)
	if len(parameters) > 0 {
		told[groupProperties] = parameters
	}
	return told, nil
}

func parametersOf(group *resource) map[string]string {
	declared, _ := group.Properties[groupProperties].(map[string]any)
	parameters := map[string]string{}
	for name, value := range declared {
		parameters[name] = fmt.Sprint(value)
	}
	return parameters
}

// configure gives a cluster's server the parameters of the group it names.
func (h redis) configure(ctx context.Context, r *resource) error {
	if r.By == byEmbedded {
		return nil
	}
	groups, err := h.p.complete("AWS::ElastiCache::ParameterGroup")
	if err != nil {
		return err
	}
	wanted := map[string]string{}
	for _, group := range groups {
		if strings.EqualFold(group.PhysicalID, r.text("CacheParameterGroupName")) {
			wanted = parametersOf(group)
		}
	}
	return h.p.setParameters(ctx, r, wanted)
}

// setParameters gives a server the parameters wanted, and those that a group
// had set before and does not set any more what they were. Parameters of the
// service that the server does not know have no effect on this machine.
func (p *Platform) setParameters(ctx context.Context, r *resource, wanted map[string]string) error {
	settings := map[string]setting{}
	for name := range wanted {
		was, known, err := redisParameter(ctx, r.Port, name)
		if err != nil {
			return fmt.Errorf("read parameter %s of %s: %w", name, r.name(), err)
		}
		if before, again := r.Settings[name]; again {
			was = before.Was
		}
		if known && !slices.Contains(ourParameters, name) {
			settings[name] = setting{Was: was}
		}
	}
	gone := maps.Clone(r.Settings)
	maps.DeleteFunc(gone, func(name string, _ setting) bool { _, stays := settings[name]; return stays })
	maps.Copy(settings, gone)
	if r.Settings = settings; len(settings) == 0 {
		return nil
	}
	if err := p.save(r); err != nil { // what they were is known from here on
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value, stays := wanted[name], true
		if _, left := gone[name]; left {
			value, stays = settings[name].Was, false
		}
		if _, err := askRedis(ctx, r.Port, "CONFIG", "SET", name, value); err != nil {
			return fault.Wrap(fault.Invalid, err, "%s: the server refuses parameter %s = %q", r.name(), name, value)
		}
		is, _, err := redisParameter(ctx, r.Port, name)
		if err != nil {
			return err
		}
		settings[name] = setting{Was: settings[name].Was, Is: is}
		if !stays {
			delete(settings, name)
		}
	}
	return p.save(r)
}

// redisParameter asks a server for a parameter, known is false if it has none
// of that name.
func redisParameter(ctx context.Context, port int, name string) (value string, known bool, err error) {
	answer, err := askRedis(ctx, port, "CONFIG", "GET", name)
	if err != nil || len(answer) != 2 {
		return "", false, err
	}
	return answer[1], true, nil
}

// redisTime is how long an answer may take.
const redisTime = 2 * time.Second

// askRedis sends one command and gives the texts of the answer. A command that
// is refused is fault.Failed.
func askRedis(ctx context.Context, port int, words ...string) (answer []string, err error) {
	d := net.Dialer{Timeout: redisTime}
	conn, err := d.DialContext(ctx, "tcp", loopback(port))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "reach the server")
	}
	defer func() { _ = conn.Close() }() // the answer is here, or an error is told already
	if err := conn.SetDeadline(time.Now().Add(redisTime)); err != nil {
		return nil, err
	}
	var command strings.Builder
	fmt.Fprintf(&command, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&command, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := io.WriteString(conn, command.String()); err != nil {
		return nil, err
	}
	return readRedis(bufio.NewReader(conn))
}

// longestAnswer bounds what is read of one text of an answer.
const longestAnswer = 1 << 20

// readRedis reads a status, a text or a list of these.
func readRedis(from *bufio.Reader) ([]string, error) {
	line, err := from.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return nil, fault.New(fault.Failed, "the server answers an empty line")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+', ':':
		return []string{rest}, nil
	case '-':
		return nil, fault.New(fault.Failed, "%s", rest)
	}
	length, err := strconv.Atoi(rest)
	if err != nil || length > longestAnswer || kind != '$' && kind != '*' {
		return nil, fault.New(fault.Failed, "the server answers %q", line)
	}
	if kind == '$' {
		if length < 0 {
			return nil, nil
		}
		text := make([]byte, length+len("\r\n"))
		_, err := io.ReadFull(from, text)
		return []string{string(text[:length])}, err
	}
	var all []string
	for range length {
		item, err := readRedis(from)
		if err != nil {
			return nil, err
		}
		all = append(all, item...)
	}
	return all, nil
}
