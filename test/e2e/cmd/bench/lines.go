package main

import (
	"strings"
	"sync"
)

// lines is what a command prints, which is read while it still runs.
type lines struct {
	mutex sync.Mutex
	text  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.String()
}

// whole leaves out a last line that was not printed to its end.
func (l *lines) whole() string {
	s := l.String()
	return s[:strings.LastIndexByte(s, '\n')+1]
}
