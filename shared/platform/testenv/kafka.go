package testenv

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/xml"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// KafkaServer is a broker, and its own controller, that a test can take away and
// bring back. It has a door for each way to come in; addresses are the same after
// a restart.
type KafkaServer struct {
	Plaintext string // for everybody
	SASL      string // User and Password, by PLAIN or SCRAM
	TLS       string // its certificate is Authority's
	MutualTLS string // so must the client's be
	SASLTLS   string // TLS and then SASL
	Behind    string // like SASL, for KafkaBehind alone

	User, Password string
	Authority      *Authority

	settings   []string
	advertised string // where clients of Behind are sent
	classpath  string
	dir        string
	temporary  bool // nobody but the leash will remove dir
	controller string

	mu      sync.Mutex // a proxy may kill the broker in the middle of a request
	process *exec.Cmd
	ended   chan struct{}
}

// Kafka starts a broker that runs until the test ends. Settings are lines as in
// server.properties, for example "message.max.bytes=2000000". It takes seconds;
// tests that do no harm to it use a SharedKafka.
func Kafka(t testing.TB, settings ...string) *KafkaServer {
	t.Helper()
	return KafkaBehind(t, "", settings...)
}

// KafkaBehind is Kafka with one door more, Behind, whose clients it sends to an
// address of the test's. A client goes where the broker tells it to, so that is how
// to get between the two.
func KafkaBehind(t testing.TB, address string, settings ...string) *KafkaServer {
	t.Helper()
	classpath := kafkaClasspath(t)
	k := &KafkaServer{settings: settings, advertised: address, classpath: classpath, dir: Dir(t)}
	t.Cleanup(k.Kill)
	k.begin(t)
	k.showLog(t)
	return k
}

// SharedKafka is a broker for all tests of a package: a variable of the package,
// from which each gets it. It ends with the process of the tests. Who takes it
// away or has expectations of all its topics uses Kafka instead.
type SharedKafka struct {
	Settings []string

	mu     sync.Mutex
	asked  bool
	server *KafkaServer
}

// Get returns the broker, which the first call starts.
func (s *SharedKafka) Get(t testing.TB) *KafkaServer {
	t.Helper()
	classpath := kafkaClasspath(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked {
		s.asked = true
		dir, err := os.MkdirTemp("", "peat-kafka-")
		if err != nil {
			t.Fatal(err)
		}
		if keep() {
			t.Logf("KEEP=1: the folder stays: %s", dir)
		}
		k := &KafkaServer{settings: s.Settings, classpath: classpath, dir: dir, temporary: !keep()}
		k.begin(t)
		s.server = k
	}
	if s.server == nil {
		t.Fatal("the shared Kafka did not start when the first test asked for it")
	}
	s.server.showLog(t)
	return s.server
}

// kafkaClasspath is where scripts/kafka has put the broker.
func kafkaClasspath(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a broker takes seconds to start")
	}
	text, err := os.ReadFile(filepath.Join(Root(t), "scripts", "kafka.pom.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var pom struct {
		Version string `xml:"version"`
	}
	if err := xml.Unmarshal(text, &pom); err != nil {
		t.Fatal(err)
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			Missing(t, "kafka", err.Error())
		}
		cache = filepath.Join(home, ".cache")
	}
	dir := filepath.Join(cache, "peat-gateway", "kafka-"+pom.Version)
	if _, err := os.Stat(dir); err != nil {
		Missing(t, "kafka", "it is not there yet (scripts/kafka fetches it)")
	}
	if _, err := exec.LookPath("java"); err != nil {
		Missing(t, "kafka", "java is not installed (scripts/kafka installs it)")
	}
	return filepath.Join(dir, "*")
}

// begin starts the broker for the first time.
func (k *KafkaServer) begin(t testing.TB) {
	t.Helper()
	since := time.Now()
	k.User, k.Password, k.Authority = "peat", rand.Text(), NewAuthority(t)
	k.writeCertificates(t)
	// A free port can be taken between looking and using, so try a few.
	for range 5 {
		k.choosePorts(t)
		if err := os.WriteFile(k.path("server.properties"), []byte(k.properties()), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(k.path("data")); err != nil {
			// Any 16 bytes name a cluster.
			format := k.java("kafka.tools.StorageTool", "format", "-t", "cGVhdC10ZXN0cy1rYWZrYQ", "-c", k.path("server.properties"))
			if said, err := format.CombinedOutput(); err != nil {
				t.Fatalf("kafka: format: %v\n%s", err, said)
			}
		}
		up, said := k.start(t)
		if up {
			k.SetPassword(t, k.User, k.Password)
			t.Logf("kafka: started in %s", time.Since(since).Round(time.Millisecond))
			return
		}
		if !strings.Contains(said, "Address already in use") {
			t.Fatalf("kafka does not start:\n%s", said)
		}
	}
	t.Fatal("kafka finds no free ports")
}

func (k *KafkaServer) path(name string) string { return filepath.Join(k.dir, name) }

func (k *KafkaServer) java(args ...string) *exec.Cmd {
	return exec.Command("java", append([]string{
		// Compiling quickly rather than well saves a third of the work of starting.
		"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS", "-cp", k.classpath,
	}, args...)...)
}

// start reports whether the broker came up, and what it said if not.
func (k *KafkaServer) start(t testing.TB) (up bool, said string) {
	t.Helper()
	log, err := os.OpenFile(k.path("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	begin := k.logSize()
	process, ended := k.java("kafka.Kafka", k.path("server.properties")), make(chan struct{})
	process.Stdout, process.Stderr = log, log
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	removed := ""
	if k.temporary {
		removed = k.dir
	}
	release, err := leash(process.Process.Pid, removed)
	k.mu.Lock()
	k.process, k.ended = process, ended
	k.mu.Unlock()
	go func() {
		defer close(ended)
		_ = process.Wait()
		if release != nil {
			release()
		}
	}()
	if err != nil {
		k.Kill()
		t.Fatal(err)
	}
	// Not the test's context: the broker may be shared.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := k.answers(ctx); err != nil {
		k.Kill()
		return false, k.logSince(begin)
	}
	return true, ""
}

// Restart starts the broker again, on what it had on its disk. After a Kill it
// takes some seconds longer than after a Stop.
func (k *KafkaServer) Restart(t testing.TB) {
	t.Helper()
	k.Kill()
	var said string
	for range 5 {
		var up bool
		if up, said = k.start(t); up {
			return
		}
		if !strings.Contains(said, "Address already in use") {
			break
		}
	}
	t.Fatalf("kafka does not start again:\n%s", said)
}

// Kill ends the broker at once, as a crash would. It may be called from any
// goroutine; likewise Stop.
func (k *KafkaServer) Kill() { k.end(os.Kill) }

// Stop lets it close its files and say good-bye.
func (k *KafkaServer) Stop() { k.end(syscall.SIGTERM) }

func (k *KafkaServer) end(by os.Signal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.process == nil {
		return
	}
	_ = k.process.Process.Signal(by)
	select {
	case <-k.ended:
	case <-time.After(time.Minute):
		_ = k.process.Process.Kill()
		<-k.ended
	}
	k.process = nil
}

// showLog shows what the broker says from now on, if the test fails.
func (k *KafkaServer) showLog(t testing.TB) {
	begin := k.logSize()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("kafka said meanwhile:\n%s", k.logSince(begin))
		}
	})
}

func (k *KafkaServer) logSize() int64 {
	info, err := os.Stat(k.path("log"))
	if err != nil {
		return 0
	}
	return info.Size()
}

// logSince returns the log from a place on, but not more than can be read.
func (k *KafkaServer) logSince(begin int64) string {
	const most = 16 << 10
	log, err := os.Open(k.path("log"))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = log.Close() }()
	text, err := io.ReadAll(io.NewSectionReader(log, max(begin, k.logSize()-most), 2*most))
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text))
}
