/** What is known of the way to one base image's server, and counters of what it cost. */
export class NetworkTraffic {
  /** Whether the page has read an answer of it, on this visit or on an earlier one. */
  isReadable = false;
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
