/** Times in words that are short and don't promise more than they know. */

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const DAYS_COUNTED = 30;

/** How long ago `date` was: "just now", "3 min ago", "2 days ago", and from a month on the date. */
export function age(date: Date, now: number = Date.now()): string {
  const seconds = (now - date.getTime()) / 1000;
  // A clock that was put back makes a snapshot of the future; there is nothing better to say of it.
  if (seconds < 10) return 'just now';
  if (seconds < DAYS_COUNTED * DAY) return `${duration(seconds)} ago`;
  return date.toLocaleDateString(undefined, { dateStyle: 'medium' });
}

/** In the largest unit that fits: "8 s", "3 min", "2 h", "1 day". Rounded down. */
export function duration(seconds: number): string {
  if (seconds < MINUTE) return `${Math.floor(seconds)} s`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min`;
  if (seconds < DAY) return `${Math.floor(seconds / HOUR)} h`;
  const days = Math.floor(seconds / DAY);
  return days === 1 ? '1 day' : `${days} days`;
}
