/** Counters of what one base image cost its server. */
export class NetworkTraffic {
  fetchedBytes = 0;
  requests = 0;
  retries = 0;

  noteBytes(count: number): void {
    this.fetchedBytes += count;
  }

  noteRequest(): void {
    this.requests++;
  }

  noteRetry(): void {
    this.retries++;
  }
}
