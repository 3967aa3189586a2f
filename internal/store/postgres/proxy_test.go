package postgres_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// proxy stands between a store and its database and spoils what passes.
type proxy struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	spoil spoil
	conns []net.Conn
}

// spoil says what becomes of what a client sends.
type spoil int

const (
	pass       spoil = iota
	stall            // nothing arrives any more
	loseCommit       // the connection breaks before the next COMMIT arrives
	loseAnswer       // it breaks after the next COMMIT was carried out
)

// between gives a proxy and the URL of the database through it.
func between(t *testing.T, database string) (p *proxy, through string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p = &proxy{listener: l, to: u.Host}
	t.Cleanup(func() { _ = l.Close(); p.cut() })
	go p.serve()
	u.Host = l.Addr().String()
	return p, u.String()
}

func (p *proxy) set(s spoil) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spoil = s
}

// cut resets every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, not an end
		}
		_ = conn.Close()
	}
	p.conns = nil
}

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		database, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, database)
		p.mu.Unlock()
		go p.carry(client, database)
	}
}

func (p *proxy) carry(client, database net.Conn) {
	defer func() { _, _ = client.Close(), database.Close() }()
	answers := make(chan []byte)
	lost := make(chan struct{})
	defer close(lost)
	go func() {
		defer close(answers)
		for buffer := make([]byte, 1<<16); ; {
			n, err := database.Read(buffer)
			if err != nil {
				return
			}
			select {
			case answers <- bytes.Clone(buffer[:n]):
			case <-lost:
				return
			}
		}
	}()
	asked := make(chan []byte)
	go func() {
		defer close(asked)
		for buffer := make([]byte, 1<<16); ; {
			n, err := client.Read(buffer)
			if err != nil {
				return
			}
			select {
			case asked <- bytes.Clone(buffer[:n]):
			case <-lost:
				return
			}
		}
	}()
	for {
		select {
		case b, ok := <-answers:
			if !ok {
				return
			}
			if _, err := client.Write(b); err != nil {
				return
			}
		case b, ok := <-asked:
			if !ok || !p.forward(b, database, answers) {
				return
			}
		}
	}
}

// forward carries what a client sent; false ends the connection.
func (p *proxy) forward(b []byte, database io.Writer, answers <-chan []byte) bool {
	p.mu.Lock()
	spoil := p.spoil
	commit := bytes.Contains(bytes.ToLower(b), []byte("commit\x00"))
	if commit && spoil != stall {
		p.spoil = pass
	}
	p.mu.Unlock()
	switch {
	case spoil == stall:
		return true
	case commit && spoil == loseCommit:
		return false
	}
	if _, err := database.Write(b); err != nil {
		return false
	}
	if commit && spoil == loseAnswer {
		<-answers
		return false
	}
	return true
}
