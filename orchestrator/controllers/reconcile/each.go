package reconcile

import (
	"fmt"
	"sync"
)

// Each runs f for 0..n-1 at the same time and returns the first error. A panic becomes an error:
// these goroutines are outside the loop's recover.
func Each(n int, f func(int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					errs[i] = fmt.Errorf("panic: %v", p)
				}
			}()
			errs[i] = f(i)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
